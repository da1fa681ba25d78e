"""The function that a control plane runs at a site. It travels as plain source, so it stands by itself."""


def appfl_gc_entry(call: dict[str, object], requires: dict[str, str]) -> object:
    """Run one call and return its reply. Never raises: every failure is a reply.

    ``call`` is the JSON form of ``appfl_gc.protocol.call.Call``. ``requires`` holds the versions of appfl_gc
    that the server works with: ``at_least`` (included) and ``below`` (not included).
    """
    try:
        wanted = "appfl_gc>={at_least},<{below}".format(**requires)
        hint = "Run at the site, in the environment of the endpoint's workers: pip install \"" + wanted + '"'
        try:
            from appfl_gc.site.handle import handle
            from appfl_gc.version import VERSION
        except ImportError as error:
            problem = "The site cannot import appfl_gc: " + str(error) + "."
        else:

            def number(version: str) -> list[int]:
                return [int("".join(c for c in part if c.isdigit()) or 0) for part in version.split(".")[:3]]

            here = number(VERSION)
            if number(requires["at_least"]) <= here < number(requires["below"]):
                return handle(call)
            problem = "The site has appfl_gc " + VERSION + "; the server works with " + wanted + "."
        error_class = "version"
    except BaseException as error:  # noqa: BLE001  the caller must hear of it
        problem, hint, error_class = "The entry function failed: " + repr(error) + ".", "", "internal"
    return {
        "wire": call.get("wire"),
        "identity": call.get("identity"),
        "nonce": call.get("nonce"),
        "values": {},
        "payloads": {},
        "measures": {"load": 0.0, "train": 0.0, "encode": 0.0, "transfer": 0.0, "steps": 0},
        "log": [],
        "error": {"error_class": error_class, "message": problem, "hint": hint, "frames": [], "trace": ""},
    }


def entry_requirements(version: str) -> dict[str, str]:
    """The ``requires`` argument that a server of ``version`` sends: the same minor release."""
    major, minor = version.split(".")[:2]
    return {"at_least": f"{major}.{minor}", "below": f"{major}.{int(minor) + 1}"}
