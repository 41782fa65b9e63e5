"""The files of deploy/lambda, the events that AWS documents, and the answers to them."""

import base64
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "deploy/lambda"
Event = dict[str, Any]


def script(name: str) -> ModuleType:
    """A file of deploy/lambda, which is no package: `lambda` is a keyword."""
    spec = importlib.util.spec_from_file_location(f"deploy_lambda_{name}", SOURCE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build, local = script("build"), script("local")


def template_settings() -> dict[str, str]:
    """What the template sets of SIGHTGLASS_, without that prefix."""
    return dict(
        re.findall(r'^ +SIGHTGLASS_(\w+): "?([^"\n]+)"?$', (SOURCE / "template.yaml").read_text(), re.MULTILINE)
    )


def http_api(method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", query: str = "") -> Event:
    """Of an HTTP API, format 2.0."""
    event: Event = local.request(method, path, body, content_type, query)
    return event


def function_url(method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", query: str = "") -> Event:
    """Of a function URL: format 2.0 with another host, and without a body or a query string where there is none."""
    event = http_api(method, path, body, content_type, query)
    host = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-central-1.on.aws"
    event["headers"] |= {"host": host, "x-amzn-tls-version": "TLSv1.3"}
    event["requestContext"] |= {"accountId": "anonymous", "domainName": host, "domainPrefix": host.partition(".")[0]}
    if query:
        event["queryStringParameters"] = dict(part.split("=") for part in query.split("&"))
    if not body:
        del event["body"]
        event["isBase64Encoded"] = False
    return event


def rest_api(method: str, path: str, body: bytes = b"", content_type: str = "image/jpeg", query: str = "") -> Event:
    """Of a REST API with binaryMediaTypes */*, format 1.0, in the stage `prod`."""
    host = "f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com"
    headers = {
        "Accept": "*/*",
        "CloudFront-Viewer-Country": "DE",
        "Content-Length": str(len(body)),
        "Content-Type": content_type,
        "Host": host,
        "User-Agent": "curl/8.5.0",
        "Via": "2.0 5f9a1b2c3d.cloudfront.net (CloudFront)",
        "X-Amzn-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700",
        "X-Forwarded-For": "203.0.113.7, 198.51.100.2",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    parameters = dict(part.split("=") for part in query.split("&")) if query else None
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": parameters,
        "multiValueQueryStringParameters": parameters and {name: [value] for name, value in parameters.items()},
        "pathParameters": {"proxy": path.removeprefix("/")},
        "stageVariables": None,
        "requestContext": _rest_context(method, path, host),
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


def _rest_context(method: str, path: str, host: str) -> Event:
    """What the REST API itself knows of a request."""
    return {
        "resourceId": "1a2b3c",
        "resourcePath": "/{proxy+}",
        "httpMethod": method,
        "extendedRequestId": "JKJaXmPLvHcESHA=",
        "requestTime": "10/Mar/2026:05:16:23 +0000",
        "path": f"/prod{path}",
        "accountId": "123456789012",
        "protocol": "HTTP/1.1",
        "stage": "prod",
        "domainPrefix": "f6g7h8i9j0",
        "requestTimeEpoch": 1773119783186,
        "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        "identity": {"sourceIp": "203.0.113.7", "userAgent": "curl/8.5.0", "user": None, "accessKey": None},
        "domainName": host,
        "apiId": "f6g7h8i9j0",
    }


KINDS = {"HTTP API": http_api, "function URL": function_url, "REST API": rest_api}


def form(file: bytes, field: str = "file") -> tuple[bytes, str]:
    """A multipart body as curl -F makes it, and its content type."""
    boundary = "------------------------d74496d66958873e"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="cat.jpg"\r\n'
    body = f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + file + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def answer(function: Any, event: Event) -> Event:
    """The function's response, as API Gateway takes it."""
    posted = function.invoke(event)
    assert posted.what == "response", posted.content
    response: Event = posted.content
    return response


def content(response: Event) -> bytes:
    return base64.b64decode(response["body"]) if response["isBase64Encoded"] else response["body"].encode()


JPEG = (ROOT / "cat.jpg").read_bytes()
