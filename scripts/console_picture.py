"""Take the picture of the console that the README shows, from a running `make demo`.

python -m scripts.console_picture --url http://127.0.0.1:8420/ --password … --out FILE.png
"""

import argparse
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

# Debian's Chromium; nothing that connects anywhere by itself.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def main() -> int:
    """Log in, wait until bays are being read, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password", required=True)
    parser.add_argument("--path", default="", help="the page, such as recordings")
    parser.add_argument("--wait-for", default="", help="a CSS selector to wait for")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--height", type=int, default=900)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_FLAGS)
        page = browser.new_page(
            viewport={"width": asked.width, "height": asked.height},
            color_scheme="dark" if asked.dark else "light",
        )
        page.goto(asked.url)
        page.fill("input[name=name]", asked.user)
        page.fill("input[name=password]", asked.password)
        page.click("button.primary")
        if asked.path:
            page.goto(asked.url + asked.path)
        if asked.wait_for:
            page.wait_for_selector(asked.wait_for, timeout=60_000)
        page.screenshot(path=asked.out)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
