"""What is around every request? Each in a file of its own; app/main.py puts them around each other, in this order:

request_log        an id, the log line and the metrics                       always
security_headers   what browsers may do with an answer                       where SECURITY_HEADERS is on
cors               pages of other sites                                      where there are CORS_ORIGINS
error_responses    whatever is raised further in, as a problem document      always
api_keys           who may call                                              where there are API_KEYS
fast_path          /predict, past FastAPI                                    always
methods            HEAD and OPTIONS of every path                            always

So an error has the headers of an answer, a preflight needs no key, and what is refused for want of one is logged.
"""
