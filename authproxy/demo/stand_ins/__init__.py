"""A managed identity endpoint and a metrics store on loopback, so that nothing here needs a cloud.

`authproxy demo` shows the real proxy between the two; the tests add faults and the rest of
Entra ID to them. Nothing of the proxy is imported here.
"""
