"""Pictures of the Usage page, taken of `tallygate demo` by a browser (`make pictures`) and kept in docs/pictures."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).parents[1] / "pictures"
PAGES = {
    "light": (
        "/?org=globex&view=requests&stack=capability",
        {"color_scheme": "light", "viewport": {"width": 1240, "height": 1180}},
    ),
    "dark": ("/?org=globex&view=tokens&stack=model", {"color_scheme": "dark", "viewport": {"width": 1240, "height": 1180}}),
    "paused": (
        "/?org=corner-bakery&view=cost&stack=credential",
        {"color_scheme": "light", "viewport": {"width": 1240, "height": 860}},
    ),
    "phone": (
        "/?org=globex&view=cost",
        {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
    ),
}


def main() -> None:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("Pictures are taken with chromium, which is not here: .ci/packages installs it.")
    demo = subprocess.Popen([sys.executable, "-m", "tallygate", "demo"], stdout=subprocess.PIPE, text=True)
    try:
        link = ""
        for line in demo.stdout or ():
            print(line, end="")
            link = link or (found[0] if (found := re.findall(r"http://\S+/#link=\S+", line)) else "")
            if line.strip().startswith("ready"):
                break
        take(program, link)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait()


def take(program: str, link: str) -> None:
    """Take every picture, signed in once with the demo's link."""
    base = link.partition("/#")[0]
    PICTURES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        first = browser.new_context()
        page = first.new_page()
        page.goto(link)
        page.locator(".tabs").wait_for()
        cookies = first.cookies()
        for name, (path, options) in PAGES.items():
            context = browser.new_context(**options)
            context.add_cookies(cookies)
            page = context.new_page()
            page.goto(base + path)
            page.locator("main:not([aria-busy]) .figure .drawing").first.wait_for()
            page.locator(".skeleton:visible").first.wait_for(state="hidden")
            page.screenshot(path=PICTURES / f"{name}.png")
            context.close()
        browser.close()


main()
