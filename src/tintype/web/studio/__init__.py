"""The studio: pages in the browser for everything the HTTP API does, and nothing that it does not.

Pages are templates filled in on the server (`html/`), with small ES modules beside them (`static/`) that ask the same
API as every program, signed in by a session instead of a key. There is no build step, and nothing comes from elsewhere.
"""
