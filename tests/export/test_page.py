"""The page in Chromium: the answers of the network, the preprocessing of picture.py, mouse, keys and files."""

import base64
import functools
import http.server
import json
import re
import threading

import numpy as np
import pytest
import torch
from export.test_onnx import varied
from harness.browser import in_browser, needs_chromium
from harness.project import ROOT
from harness.training import make_network, train
from PIL import Image

from digitsum.data.splits import load_split
from digitsum.export.page import refusal, to_page, with_page_weights
from digitsum.model.evidence import Limits
from digitsum.model.network import load_model
from digitsum.picture import candidates
from digitsum.prediction import predict
from studies.other_hands.pictures import CONDITIONS, NOTHING, from_strokes, written

MODEL = ROOT / "models/digitsum.safetensors"
needs_model = pytest.mark.skipif(not MODEL.is_file(), reason="needs the pipeline's model: make repro")
TRUNKS = ["large", "pooled", "strided", "small", "tiny", "minimal"]
PREPARED = """(() => {{
    const found = candidates(Uint8Array.from(atob({}), (letter) => letter.charCodeAt(0)), {}, {});
    return [answer(found, 5).verdict, found.map(({{ image }}) => image)];
}})()"""


def write_page(folder, network):
    """Write the page of a network to `folder`; return its URL."""
    path = folder / "index.html"
    path.write_text(to_page(network))
    return path.as_uri()


@pytest.fixture(scope="module")
def network():
    """Return the pipeline's network if it is there, otherwise one with initial weights."""
    network = load_model(MODEL) if MODEL.is_file() else varied(make_network(trunk="large"))
    network.limits = network.limits or Limits(-1000, -1000)
    return network


def test_a_page_loads_nothing_and_fits_on_a_floppy_disk_three_times():
    page = to_page(varied(make_network(trunk="large")))
    assert len(page.encode()) <= 450_000
    assert not re.findall(r'(?:src|href)="(?!data:,")', page)
    assert not re.findall(r"\b(?:fetch|XMLHttpRequest|import|WebSocket)\b *\(", page)
    assert "default-src 'none'" in page
    assert "{model}" not in page


@pytest.mark.parametrize(("fusion", "trunk"), [("concat", "small"), ("shift", "baseline_add")])
def test_a_network_that_the_page_cannot_compute_is_named_on_it(fusion, trunk):
    network = make_network(fusion, trunk=trunk).eval()
    assert (trunk if fusion == "shift" else fusion) in refusal(network)
    assert refusal(network) in to_page(network)
    assert "<script" not in to_page(network)


def test_equal_networks_have_equal_pages():
    one, other = (varied(make_network_with_seed("small")) for _ in range(2))
    assert to_page(one) == to_page(other)


def make_network_with_seed(trunk):
    torch.manual_seed(0)
    return make_network(trunk=trunk)


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("deskew", [True, False])
def test_the_page_gives_the_networks_logits(trunk, deskew, tmp_path):
    network = varied(make_network(trunk=trunk, pixel_mean=0.13, pixel_std=0.31, deskew=deskew))
    url, images = write_page(tmp_path, network), torch.randint(0, 256, (20, 28, 28), dtype=torch.uint8)

    async def steps(page):
        await page.open(url)
        return await page.run(f"{json.dumps(images.flatten(1).tolist())}.map((image) => digitLogits(image))")

    found = torch.tensor(in_browser(tmp_path / "profile", steps))
    with torch.no_grad():
        expected, _ = with_page_weights(network).forward_pixels(images.float(), torch.zeros(20, dtype=torch.int64))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.slow
@needs_chromium
def test_pictures_are_prepared_as_in_python(network, tmp_path):
    url, random = write_page(tmp_path, network), np.random.default_rng(0)
    names = [name for name in CONDITIONS if "16 bits" not in name]  # browsers reduce those to 8 bits
    pictures = {
        f"{name} {repeat}": CONDITIONS[name](from_strokes((place + repeat) % 10, random), random)
        for place, name in enumerate(names)
        for repeat in range(2)
    }
    nothing = {name: make(random) for name, make in NOTHING.items()}
    pictures |= {"28 pixels": Image.fromarray(random.integers(0, 256, (28, 28), dtype=np.uint8))}
    assert len(pictures) >= 50

    async def steps(page):
        await page.open(url)
        found = {}
        for name, picture in (pictures | nothing).items():
            pixels = base64.b64encode(picture.convert("RGBA").tobytes()).decode()
            found[name] = await page.run(PREPARED.format(json.dumps(pixels), *picture.size))
        return found

    for name, (shown, found) in in_browser(tmp_path / "profile", steps).items():
        picture = (pictures | nothing)[name]
        assert shown == predict(picture, 5, network).verdict, name
        expected = [candidate.image.flatten() for candidate in candidates(picture)]
        assert len(found) == len(expected) or name in nothing, name
        for one, other in zip(found, expected, strict=False):
            assert np.abs(np.array(one) - other).max() <= 1 or name in nothing, name  # there it is noise


@pytest.mark.slow
@needs_chromium
@needs_model
def test_no_answer_of_the_test_split_differs_on_the_page(network, tmp_path):
    url, test = write_page(tmp_path, network), load_split(ROOT / "data/paired/test.safetensors")
    with torch.no_grad():
        batches = test.images.split(500)
        expected = torch.cat([network(images, torch.zeros(len(images), dtype=torch.int64))[0] for images in batches])

    async def steps(page):
        await page.open(url)
        found = []
        for images in batches:
            pixels = base64.b64encode(images.numpy().tobytes()).decode()
            script = (
                f"(() => {{ const all = Uint8Array.from(atob({json.dumps(pixels)}), (letter) => letter.charCodeAt(0));"
            )
            script += "return Array.from({ length: all.length / 784 }, (_, i) =>"
            script += "digitLogits(Array.from(all.subarray(784 * i, 784 * i + 784)))); })()"
            found += await page.run(script)
        return found

    found = torch.tensor(in_browser(tmp_path / "profile", steps)) / network.digit_temperature
    assert len(found) == 10_000
    assert torch.equal(found.argmax(1), expected.argmax(1))
    assert (found.softmax(1) - expected.softmax(1)).abs().max() < 1e-3


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        self.server.requests.append(self.path)


@pytest.mark.slow
@needs_chromium
def test_a_user_draws_types_opens_and_clears(splits, tmp_path):
    network, _ = train(splits)
    network.limits = Limits(-1000, -1000)
    url = write_page(tmp_path, network)
    image = tmp_path / "digit.png"
    Image.new("RGB", (300, 200), "white").save(image)

    async def steps(page):
        await page.open(url)
        shown = [await page.run("find('says').textContent")]
        box = await page.run("(({ x, y, width }) => [x, y, width])(canvas.getBoundingClientRect())")
        await page.draw([[(box[0] + box[2] / 2, box[1] + part * box[2]) for part in (0.2, 0.5, 0.8)]])
        for key in "70":
            await page.press(key)
            digit, number, total = [
                int(await page.run(f"find('{name}').textContent")) for name in ("digit", "number-shown", "sum")
            ]
            assert number == int(key)
            assert total == digit + number
        shares = await page.run("[...find('sums').children].map((bar) => +bar.style.getPropertyValue('--share'))")
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert await page.run("document.querySelectorAll('.bars .highest').length") == 2
        await page.press("Escape")
        shown.append(await page.run("find('says').textContent"))
        node = await page.call("DOM.getDocument")
        file = await page.call("DOM.querySelector", nodeId=node["root"]["nodeId"], selector="#file")
        await page.call("DOM.setFileInputFiles", nodeId=file["nodeId"], files=[str(image)])
        await page.run("new Promise((done) => setTimeout(done, 500))")
        shown.append(await page.run("find('says').textContent"))
        for _ in range(3):
            await page.press("Tab")
        shown.append(await page.run("document.activeElement.name || document.activeElement.id"))
        names = [
            node["name"]["value"]
            for node in (await page.call("Accessibility.getFullAXTree"))["nodes"]
            if "name" in node
        ]
        return shown, names, page.told("Log.entryAdded"), page.told("Runtime.exceptionThrown")

    shown, names, logged, thrown = in_browser(tmp_path / "profile", steps)
    assert shown[0] == shown[1] == "Draw a digit, or open, drop or paste a picture."
    assert shown[2] == "No ink: nothing stands out from the paper."
    assert shown[3] == "number"
    assert {"Clear", "Number to add", "What the network sees", "7"} <= set(names)
    assert logged == thrown == []


@pytest.mark.slow
@needs_chromium
def test_a_picture_that_opens_late_is_not_shown(network, tmp_path):
    url = write_page(tmp_path, network)
    script = """(async () => {
        const picture = (side) => {
            const drawn = new OffscreenCanvas(side, side);
            drawn.getContext("2d").fillRect(0, 0, side / 2, side);
            return drawn.convertToBlob();
        };
        const [large, small] = [await picture(2000), await picture(100)];
        const shown = async (...steps) => {
            for (const step of steps) step();
            await new Promise((done) => setTimeout(done, 1500));
            return canvas.classList.contains("picture");
        };
        const seen = [await shown(() => open(large)), await shown(() => open(large), clear)];
        let last = null;
        const before = candidates;
        candidates = (pixels, width, height) => { last = width; return before(pixels, width, height); };
        await shown(() => open(large), () => open(small));
        return [...seen, last];
    })()"""

    async def steps(page):
        await page.open(url)
        return await page.run(script)

    assert in_browser(tmp_path / "profile", steps) == [True, False, 100]


@pytest.mark.slow
@needs_chromium
def test_the_page_makes_one_request_over_http(network, tmp_path):
    write_page(tmp_path, network)
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.requests = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/index.html"

        async def steps(page):
            await page.open(url)
            await page.run("new Promise((done) => setTimeout(done, 500))")
            return len(page.told("Network.requestWillBeSent")), page.told("Log.entryAdded")

        assert in_browser(tmp_path / "profile", steps) == (1, [])
        server.shutdown()
    assert server.requests == ["/index.html"]


@pytest.mark.slow
@needs_chromium
@needs_model
def test_strokes_of_a_mouse_are_recognised_wherever_and_however_large(network, tmp_path):
    url, random = write_page(tmp_path, network), np.random.default_rng(11)

    async def steps(page):
        await page.open(url)
        x, y, side = await page.run("(({ x, y, width }) => [x, y, width])(canvas.getBoundingClientRect())")
        correct = 0
        for drawing in range(300):
            size = random.uniform(0.25, 0.75) * side
            strokes = [size * stroke[::2] for stroke in written(drawing % 10, random)]
            low, high = (edge(np.concatenate(strokes), axis=0) for edge in (np.min, np.max))
            start = np.array([x, y]) + 8 - low + random.uniform(0, 1, 2) * np.maximum(side - 16 - (high - low), 0)
            await page.draw([[tuple(map(float, start + point)) for point in stroke] for stroke in strokes])
            correct += await page.run("find('digit').textContent") == str(drawing % 10)
            await page.press("Escape")
        return correct

    assert in_browser(tmp_path / "profile", steps) >= 297
