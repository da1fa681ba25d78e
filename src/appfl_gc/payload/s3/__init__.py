"""Payloads in an S3 bucket. Only the server has credentials; sites get URLs that it signed.

``server_store`` is the server's side and needs boto3. ``granted`` is a site's side. Both move bytes with ``upload``
and ``download``, which know URLs only.
"""
