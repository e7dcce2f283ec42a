"""What the pages of libraries need beyond CONTENT_SECURITY_POLICY: they write styles into the page."""

from csp.constants import UNSAFE_INLINE

INLINE_STYLES = {"style-src": [UNSAFE_INLINE]}
INLINE_SCRIPTS = {**INLINE_STYLES, "script-src": [UNSAFE_INLINE]}
