"""A stand-in Entra and a stand-in metrics store, so that nothing here needs a cloud.

`authproxy demo` shows the real proxy between the two; the tests use the same
two classes. Nothing of the proxy is imported here.
"""
