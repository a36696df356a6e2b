"""A step whose blocks are compiled: few graphs for all sizes, none of it eager, and our own form's numbers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.weightless import NARROW, NARROW_IDEOGRAM, Weightless, WeightlessFlux, WeightlessIdeogram4
from tests.support.packed import quantise
from torch._dynamo.backends.registry import lookup_backend

from tintype import devices
from tintype.lora.adapter import Adapter
from tintype.models.family import Features, Forward
from tintype.training.cache import Cache, Item
from tintype.training.checkpoint import TrainingState
from tintype.training.plan import Plan
from tintype.training.step import Stepper

# Dynamo looks at every input's gradient, and torch warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

CPU = torch.device("cpu")
SIDES = range(4, 8)
ALL = 100
GRAPHS = {"flux": 3, "ideogram4": 1}  # FLUX: double, single, and the first single, whose streams come apart


class CountingBackend:
    """Stands for Inductor: counts the graphs that it is given, and how often they run.

    `whole` makes it take a graph apart as Inductor does, the backward pass too; else the graph runs as it was found.
    """

    def __init__(self) -> None:
        self.graphs = self.runs = 0
        self.whole = False

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        made = lookup_backend("aot_eager" if self.whole else "eager")(graph, inputs)
        self.graphs += 1

        def run(*values: Any) -> Any:
            self.runs += 1
            return made(*values)

        return run


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingBackend]:
    counting = CountingBackend()
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would keep all of it
    torch.compiler.reset()
    torch.compiler.set_default_backend(counting)
    try:
        yield counting
    finally:
        torch.compiler.set_default_backend(None)
        torch.compiler.reset()


def narrow(base: str) -> Weightless:
    """Of several blocks of each kind, because the first and the last differ from those between."""
    torch.manual_seed(0)
    if base == "flux":
        return WeightlessFlux(NARROW | {"num_layers": 2, "num_single_layers": 3}, CPU, torch.float32)
    return WeightlessIdeogram4(CPU, torch.float32, NARROW_IDEOGRAM | {"num_layers": 3})


def cache_for(family: Weightless, shapes: list[tuple[int, int]], captions: int = 1, text: int = 9) -> Cache:
    """An item of each shape. Caption n has text + n tokens, of which FLUX reads the padding too."""
    channels = family.load_transformer().config.in_channels
    features = family.random_features(captions, text + captions - 1)
    if isinstance(family, WeightlessIdeogram4):
        features = Features(features.tokens, torch.tensor([[float(text + n)] for n in range(captions)]))
    items = [
        Item(str(n), torch.randn(rows * columns, channels), rows, columns, n % captions, None)
        for n, (rows, columns) in enumerate(shapes)
    ]
    return Cache(items, [str(n) for n in range(captions)], features, "random")


SIXTEEN_SIZES = [(rows, columns) for rows in SIDES for columns in SIDES]
# Its image has as many tokens as its text, and as the network's width: no reason to take that for a rule.
COINCIDENCE = [(4, 8), *SIXTEEN_SIZES]


def stepper_for(family: Weightless, cache: Cache, forward: Forward, recomputed: int = 0, **chosen: Any) -> Stepper:
    adapter = Adapter.for_transformer(
        family.load_transformer(), family.adapter_targets, rank=2, seed=0, device=CPU, shared=family.fused_targets
    )
    adapter.weights.data.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    plan = Plan(steps=ALL, learning_rate=1e-3, **chosen.pop("plan", {}))
    return Stepper(family, adapter, cache, plan, recomputed=recomputed, forward=forward, **chosen)


def gradients(stepper: Stepper, steps: int) -> list[torch.Tensor]:
    """Of the first steps, nothing being learned between them."""
    found = []
    assert stepper.adapter.weights.grad is not None
    for step in range(steps):
        stepper.adapter.weights.grad.zero_()
        stepper.differentiate(step)
        found.append(stepper.adapter.weights.grad.clone())
    return found


@pytest.mark.parametrize(("base", "recomputed"), [("flux", 3), ("ideogram4", 0), ("ideogram4", 1)])
def test_sixteen_sizes_and_twelve_captions_are_few_graphs_and_give_our_own_gradients(
    base: str, recomputed: int, backend: CountingBackend
) -> None:
    family = narrow(base)
    cache = cache_for(family, SIXTEEN_SIZES, captions=12)
    assert len({item.shape for item in cache.items}) == 16
    compiled = stepper_for(family, cache, Forward.COMPILED, recomputed)
    with compiled.prepared():
        found = gradients(compiled, len(cache.items))
    assert backend.graphs <= 8
    assert backend.graphs == GRAPHS[base]
    blocks = len(family.blocks_of(family.load_transformer()))
    # Each recomputed block once more, and nothing beside the graphs.
    assert backend.runs == len(cache.items) * (blocks + min(recomputed, blocks))
    own = stepper_for(family, cache, Forward.OWN)
    with own.prepared():
        wanted = gradients(own, len(cache.items))
    for ours, theirs in zip(wanted, found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4 * float(ours.abs().max()))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # Dynamo does it
@pytest.mark.parametrize("precision", ["fp8", "nf4"])
def test_a_rounded_base_is_compiled_as_a_whole(precision: str, backend: CountingBackend) -> None:
    family, found = narrow("ideogram4"), []
    backend.whole = True
    cache = cache_for(family, SIXTEEN_SIZES[:4])
    quantise(family.load_transformer(), precision)
    for forward in (Forward.COMPILED, Forward.DIFFUSERS):
        stepper = stepper_for(family, cache, forward, recomputed=1)
        with stepper.prepared():
            found.append(gradients(stepper, 2)[-1])
    assert backend.graphs == GRAPHS["ideogram4"]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4 * float(found[0].abs().max()))


@pytest.mark.long
def test_a_size_that_equals_another_by_chance_costs_a_graph_of_each_kind_at_most(backend: CountingBackend) -> None:
    family = narrow("flux")
    cache = cache_for(family, COINCIDENCE, text=32)
    stepper = stepper_for(family, cache, Forward.COMPILED)
    first = next(step for step in range(ALL) if stepper.inputs.at(step).noisy.columns == 8)
    with stepper.prepared():
        stepper.differentiate(first)
        gradients(stepper, len(cache.items))
    assert backend.graphs <= 2 * GRAPHS["flux"]


def test_captions_of_several_lengths_in_a_batch_share_graphs(backend: CountingBackend) -> None:
    family = narrow("ideogram4")
    cache = cache_for(family, [size for size in SIXTEEN_SIZES for _ in range(3)], captions=12)
    stepper = stepper_for(family, cache, Forward.COMPILED, plan={"batch_size": 3})
    with stepper.prepared():
        gradients(stepper, 16)
    assert backend.graphs <= 2, "with a mask and without"


def test_the_thread_of_a_gpus_backward_pass_finds_what_was_compiled(backend: CountingBackend) -> None:
    family, base = narrow("ideogram4"), "ideogram4"
    backend.whole = True
    stepper = stepper_for(family, cache_for(family, SIXTEEN_SIZES), Forward.COMPILED, recomputed=ALL)
    raised: list[BaseException] = []

    def backward(loss: torch.Tensor) -> None:
        try:
            loss.backward()
        except BaseException as error:
            raised.append(error)

    with stepper.prepared():
        for step in range(4):
            # On a GPU autograd runs blocks again in a thread of its own, which has none of this one's settings.
            thread = threading.Thread(target=backward, args=[stepper.loss(stepper.inputs.at(step))])
            thread.start()
            thread.join()
    assert not raised
    assert backend.graphs == GRAPHS[base]
    assert backend.runs == 4 * 2 * len(family.blocks_of(family.load_transformer()))


@pytest.mark.parametrize("base", [pytest.param("flux", marks=pytest.mark.long), "ideogram4"])
def test_what_a_long_run_on_a_gpu_does_runs_from_end_to_end(base: str, backend: CountingBackend) -> None:
    family, said = narrow(base), list[str]()
    backend.whole = True
    cache = cache_for(family, SIXTEEN_SIZES, captions=12)
    stepper = stepper_for(family, cache, Forward.COMPILED, recomputed=2, log=said.append)
    state = TrainingState.new(stepper.adapter.weights.data)
    with stepper.prepared():
        for step in range(4):
            if step == 2:
                with stepper.paused():
                    assert not any("forward" in vars(block) for block in family.blocks_of(family.load_transformer()))
            assert stepper.take(state).taken
            state.step += 1
        found = gradients(stepper, 1)[0]
    own = stepper_for(family, cache, Forward.OWN)
    own.adapter.weights.data.copy_(stepper.adapter.weights.data)
    with own.prepared():
        wanted = gradients(own, 1)[0]
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    assert backend.graphs == GRAPHS[base], "a pause forgets nothing"
    assert stepper.figures() == {"order_of_work": "compiled", "compiled_graphs": GRAPHS[base]}
    assert [line for line in said if "are compiled" in line] == [
        f"The blocks are compiled; graphs so far, each for all sizes: {GRAPHS[base]}."
    ]


def test_another_run_has_the_whole_number_of_graphs_again(backend: CountingBackend) -> None:
    family = narrow("ideogram4")
    for rank in (1, 2):  # each is another graph of the same function
        adapter = Adapter.for_transformer(
            family.load_transformer(), family.adapter_targets, rank=rank, seed=0, device=CPU
        )
        plan = Plan(steps=ALL, learning_rate=1e-3)
        stepper = Stepper(family, adapter, cache_for(family, SIXTEEN_SIZES), plan, forward=Forward.COMPILED)
        with torch._dynamo.config.patch(recompile_limit=1), stepper.prepared():
            stepper.take(TrainingState.new(adapter.weights.data))
        assert stepper.figures() == {"order_of_work": "compiled", "compiled_graphs": 1}


def taken_by_our_own_form(base: str) -> torch.Tensor:
    family = narrow(base)
    own = stepper_for(family, cache_for(family, SIXTEEN_SIZES), Forward.OWN)
    with own.prepared():
        own.take(TrainingState.new(own.adapter.weights.data))
    return own.adapter.weights.detach()


def taken_after_failing(base: str, said: list[str]) -> Stepper:
    family = narrow(base)
    stepper = stepper_for(family, cache_for(family, SIXTEEN_SIZES), Forward.COMPILED, log=said.append)
    with stepper.prepared():
        assert stepper.take(TrainingState.new(stepper.adapter.weights.data)).taken
    return stepper


def forward_fails(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
    raise FileNotFoundError("no such file: gcc")


def backward_fails(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
    from torch._dynamo.backends.common import aot_autograd

    backend = aot_autograd(fw_compiler=lambda graph, inputs: graph.forward, bw_compiler=forward_fails)
    compiled: Callable[..., Any] = backend(graph, inputs)
    return compiled


@pytest.mark.parametrize("fails", [forward_fails, backward_fails])
def test_where_compiling_fails_the_same_step_is_taken_in_our_own_form(
    fails: Callable[..., Any], backend: CountingBackend
) -> None:
    torch.compiler.set_default_backend(fails)
    said: list[str] = []
    stepper = taken_after_failing("ideogram4", said)
    assert torch.equal(stepper.adapter.weights, taken_by_our_own_form("ideogram4"))
    told = stepper.figures()
    assert told["order_of_work"] == "own"
    assert "no such file: gcc" in told["why_not_compiled"]
    assert "compiled_graphs" not in told
    assert any("no such file: gcc" in line for line in said)
    assert not any("are compiled" in line for line in said)


@pytest.mark.parametrize("how", ["force_eager", "disable"])
def test_a_compiler_that_is_switched_off_is_not_taken_for_one(how: str, backend: CountingBackend) -> None:
    said: list[str] = []
    off = torch.compiler.set_stance(how) if how == "force_eager" else torch._dynamo.config.patch(disable=True)
    with off:
        stepper = taken_after_failing("flux", said)
    assert torch.equal(stepper.adapter.weights, taken_by_our_own_form("flux"))
    assert stepper.figures()["order_of_work"] == "own"
    assert stepper.figures()["why_not_compiled"].startswith("Nothing is compiled: it failed (")
    assert not any("are compiled" in line for line in said)


def test_more_graphs_than_torch_keeps_end_compiling_not_the_run(backend: CountingBackend) -> None:
    said: list[str] = []
    with torch._dynamo.config.patch(recompile_limit=1):  # FLUX's single blocks need two
        stepper = taken_after_failing("flux", said)
    assert torch.equal(stepper.adapter.weights, taken_by_our_own_form("flux"))
    assert stepper.figures()["order_of_work"] == "own"
    assert "RecompileLimit" in stepper.figures()["why_not_compiled"]


def test_what_compiling_lacks_is_named_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("CC", raising=False)
    assert "C compiler" in devices.lacking_for_compiling()
    monkeypatch.setenv("CC", str(tmp_path / "gcc"))
    (tmp_path / "gcc").touch(mode=0o755)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    assert "headers" in devices.lacking_for_compiling()
    (tmp_path / "Python.h").touch()
    assert devices.lacking_for_compiling() == ""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # PyTorch's own, as Inductor loads
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_inductor_itself_gives_our_own_gradients(base: str) -> None:
    family = narrow(base)
    cache = cache_for(family, SIXTEEN_SIZES)
    compiled = stepper_for(family, cache, Forward.COMPILED, recomputed=2)
    with compiled.prepared():
        compiled.take(TrainingState.new(compiled.adapter.weights.data.clone()))
        assert compiled.figures() == {"order_of_work": "compiled", "compiled_graphs": GRAPHS[base]}
    own = stepper_for(family, cache, Forward.OWN)
    with own.prepared():
        own.take(TrainingState.new(own.adapter.weights.data.clone()))
    torch.testing.assert_close(compiled.adapter.weights, own.adapter.weights, rtol=1e-3, atol=1e-4)
