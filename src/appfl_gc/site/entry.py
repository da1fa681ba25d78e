"""The function that a control plane runs at a site. It travels as plain source, so it stands by itself."""


def appfl_gc_entry(call: dict[str, object], requires: dict[str, str]) -> object:
    """Run one call and return its reply. Never raises: every failure is a reply.

    ``call`` is the JSON form of ``appfl_gc.protocol.call.Call``. ``requires`` holds the versions of appfl_gc
    that the server works with: ``at_least`` (included) and ``below`` (not included).
    """
    try:
        from appfl_gc.site.handle import handle

        return handle(call, requires)
    except BaseException as error:  # noqa: BLE001  the caller must hear of it
        missing = isinstance(error, ImportError)
        pip = 'pip install "appfl_gc>={at_least},<{below}"'.format(**requires) if missing else ""
        return {
            "wire": call.get("wire"),
            "identity": call.get("identity"),
            "nonce": call.get("nonce"),
            "values": {},
            "payloads": {},
            "measures": {"load": 0.0, "train": 0.0, "encode": 0.0, "transfer": 0.0, "steps": 0},
            "log": [],
            "error": {
                "error_class": "version" if missing else "internal",
                "message": ("The site cannot import appfl_gc: " if missing else "The entry function failed: ")
                + repr(error),
                "hint": pip and "Run at the site, in the environment of the endpoint's workers: " + pip,
                "frames": [],
                "trace": "",
            },
        }


def entry_requirements(version: str) -> dict[str, str]:
    """The ``requires`` argument that a server of ``version`` sends: the same minor release."""
    major, minor = version.split(".")[:2]
    return {"at_least": f"{major}.{minor}", "below": f"{major}.{int(minor) + 1}"}
