"""How does a command speak to a terminal?"""
