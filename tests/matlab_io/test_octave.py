"""GNU Octave as the judge: what it saves is read, what is written it loads, and its arithmetic agrees."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

import matlab_io
from matlab_io import MatFileError, ResultFile, inspect_file, open_channels, write_channels

pytestmark = pytest.mark.octave

Octave = Callable[[str, Path], str]
Make = Callable[..., npt.NDArray[np.complex64]]
SCRIPTS = Path(matlab_io.__file__).parent / "matlab"

# H(n, k, s) = n + 100 k + 10000 s + 0.5j n k, all exact in single.
SAVE = """
[n, k, s] = ndgrid(1:8, 1:3, 1:4);
H = n + 100 * k + 10000 * s + 0.5i * n .* k;
power = 2; noise_power_dbw = -20; name = 'uav'; flag = true; empty = []; list = {1, 'a'}; f = @sin;
many(1).x = 1; many(2).x = 2; sp = sparse([1 0; 0 1i]); seen = sparse([0 1]) > 0; i16 = int16(-3); range = 1:5;
save -v6 v6.mat H power noise_power_dbw name flag empty list many sp seen i16 range
save -v7 v7.mat H power noise_power_dbw name flag empty list many sp seen i16 range
site.chan.H = single(permute(H, [2 1 3])); site.chan.power = 7; site.name = 'mast';
save -v7 nested.mat site power name
save -v6 nested6.mat site power name
one = H(:, :, 1); save -v4 v4.mat one power name
save -hdf5 octave.h5 one power
save -text text.mat one power
whole = int16(3) * ones(4, 2); H = whole; save -v7 whole.mat H
H = rand(4, 2); save -v7 real.mat H
"""


@pytest.fixture(scope="module")
def saved(octave: Octave, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("octave")
    octave(SAVE, folder)
    return folder


def expected() -> npt.NDArray[np.complex64]:
    s, k, n = np.meshgrid(range(1, 5), range(1, 4), range(1, 9), indexing="ij")
    return (n + 100 * k + 10000 * s + 0.5j * n * k).astype(np.complex64)


@pytest.mark.parametrize("version", ["6", "7"])
def test_octaves_files_are_read(saved: Path, version: str) -> None:
    with open_channels(saved / f"v{version}.mat", layout="nks") as file:
        assert (file.version, file.layout, file.convention) == (version, "nks", "hermitian")
        assert np.array_equal(file.read(0, 4), expected())
        assert file.scalars == pytest.approx({"power": 2.0, "noise_power": 0.01})
    assert sorted(map(str, inspect_file(saved / f"v{version}.mat"))) == [
        "H (8 x 3 x 4 complex double)",
        "empty (0 x 0 double)",
        "flag (1 x 1 logical)",
        "i16 (1 x 1 int16)",
        "list (1 x 2 cell)",
        "many (1 x 2 struct)",
        "name (1 x 3 char)",
        "noise_power_dbw (1 x 1 double)",
        "power (1 x 1 double)",
        "range (1 x 5 double)",
        "seen (1 x 2 sparse)",
        "sp (2 x 2 complex sparse)",
    ]


def test_octaves_version_4_is_read(saved: Path) -> None:
    with open_channels(saved / "v4.mat") as file:
        assert (file.version, file.variable, file.scalars) == ("4", "one", {"power": 2.0})
        assert np.array_equal(file.read(0, 1), expected()[:1])


@pytest.mark.parametrize("name", ["nested.mat", "nested6.mat"])
def test_octaves_nested_structs_are_read(saved: Path, name: str) -> None:
    with open_channels(saved / name, layout="kns") as file:
        assert (file.variable, file.convention, file.scalars) == ("site.chan.H", "direct", {"power": 7.0})
        assert np.array_equal(file.read(0, 4), expected().conj())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("octave.h5", "Octave's -hdf5 format.*save it with -v7"),
        ("text.mat", "Octave's text format; save it with save -v7"),
        ("whole.mat", r"H \(4 x 2 int16\) is real"),
        ("real.mat", r"H \(4 x 2 double\) is real"),
    ],
)
def test_octaves_other_files_are_refused(saved: Path, name: str, message: str) -> None:
    with pytest.raises(MatFileError, match=message):
        open_channels(saved / name)


LOAD = """
for version = {'6', '7', '7.3'}
  r = load(['r' version{1} '.mat']);
  assert(size(r.precoder), [8 3 2 2]);
  assert(size(r.rate), [3 2 2]); assert(class(r.rate), 'double');
  assert(size(r.sum_rate), [1 2 2]);
  if ! strcmp(version{1}, '7.3')  # of HDF5, Octave knows neither MATLAB's single nor logical nor char
    assert(class(r.precoder), 'single');
    assert(islogical(r.near_field) && islogical(r.feasible) && islogical(r.fallback));
    assert(ischar(r.nflae_info.scheme));
  end
  assert(char(r.nflae_info.scheme(:).'), 'zf'); assert(r.nflae_info.noise_power, 0.1);
  c = load(['c' version{1} '.mat']);
  assert(size(c.H), [8 3 4]); assert(c.site.height, 15); assert(char(c.name(:).'), 'uav');
  assert(double(c.H(2, 3, 4)), 2 + 300 + 40000 + 3i);
end
c = load('c4.mat'); assert(size(c.H), [8 3]); assert(c.H(2, 3), 302 + 10000 + 3i);
"""


def zero_forcing(h: npt.NDArray[np.complex64], noise_power: float) -> dict[str, npt.NDArray[np.generic]]:
    """A textbook result, with SINRs by einsum from y_k = h_k^H x."""
    drops, users, _ = h.shape
    w = np.linalg.pinv(h.conj().astype(complex)).transpose(0, 2, 1)
    w = w + 0.05 * h  # some interference, so that the rates test more than the diagonal
    w = (w / np.linalg.norm(w, axis=-1, keepdims=True)).astype(np.complex64)
    p = np.random.default_rng(1).random((drops, users))
    received = np.abs(np.einsum("dkn,djn->dkj", h.conj(), w)) ** 2 * p[:, None, :]
    wanted = np.einsum("dkk->dk", received)
    sinr = wanted / (received.sum(-1) - wanted + noise_power)
    rate = np.log2(1 + sinr)
    flags = np.ones(drops, bool)
    return {
        "precoder": w,
        "power": p,
        "lambda": p,
        "near_field_score": p,
        "near_field": p > 0.5,
        "sinr": sinr,
        "rate": rate,
        "sum_rate": rate.sum(-1),
        "feasible": flags,
        "fallback": ~flags,
    }


def precode(
    source: Path,
    target: Path,
    layout: str | None = None,
    convention: str | None = None,
    receiver: str = "linear",
    receive: str | None = None,
) -> list[str]:
    with open_channels(source, layout=layout, convention=convention, receive_antennas=receive) as file:
        info = {
            "scheme": "zf",
            "receiver": receiver,
            "noise_power": 0.1,
            "layout": file.layout,
            "convention": file.convention,
            "variable": file.variable,
            "receive_antennas": file.receive_mode,
        }
        with ResultFile(
            target,
            version=file.version,
            antennas=file.antenna_axes,
            users=file.users,
            drop_axes=file.drop_axes,
            convention=file.convention,
            info=info,
            inputs=(source,),
            receive_antennas=file.receive_antennas if file.receive_mode in ("strongest", "eigen") else None,
        ) as output:
            channels, combiner = file.read_combined(0, file.drops)
            combined = {} if combiner is None else {"receive_combiner": combiner}
            output.write(0, zero_forcing(channels, 0.1) | combined)
        return file.notes


def test_octave_loads_what_is_written(octave: Octave, tmp_path: Path) -> None:
    h = expected()
    for version in ("6", "7", "7.3"):
        write_channels(
            tmp_path / f"c{version}.mat",
            [h],
            users=3,
            antennas=8,
            drops=4,
            version=version,
            extra={"site": {"height": 15}, "name": "uav"},
        )
        with ResultFile(
            tmp_path / f"r{version}.mat",
            version=version,
            antennas=8,
            users=3,
            drop_axes=(2, 2),
            convention="hermitian",
            info={"scheme": "zf", "noise_power": 0.1},
        ) as file:
            file.write(0, zero_forcing(h, 0.1))
    write_channels(tmp_path / "c4.mat", [h[:1]], users=3, antennas=8, drops=1, version="4")
    octave(LOAD, tmp_path)


def test_octave_refuses_to_recompute_rates_of_receivers_with_sic(
    octave: Octave, tmp_path: Path, channels: Make
) -> None:
    scipy.io.savemat(tmp_path / "in.mat", {"H": channels(2, 3, 8).T})
    precode(tmp_path / "in.mat", tmp_path / "out.mat", layout="nks", receiver="sic")
    script = f"""
        addpath('{SCRIPTS}');
        try
          nflae_check_rates('in.mat', 'out.mat');
        catch problem
          printf('%s: %s', problem.identifier, problem.message);
        end"""
    assert "nflae:receiver: the rates in out.mat are those of receivers with SIC" in octave(script, tmp_path)


def test_octave_recomputes_the_same_rates(octave: Octave, tmp_path: Path, channels: Make) -> None:
    """In every layout and convention: the end of the chain that an engineer relies on."""
    h = channels(6, 3, 8)
    cases = {
        "nks": h.T,
        "kns": h.conj().transpose(1, 2, 0),
        "skn": h.conj(),
        "knfs": h.conj().transpose(1, 2, 0).reshape(3, 8, 2, 3),
        "nksf": h.T.reshape(8, 3, 3, 2),
        "fnsk": h.transpose(2, 0, 1).reshape(8, 2, 3, 3).transpose(1, 0, 2, 3),
        "nk": h[0].T,
        "1ks1n": h.conj().transpose(1, 0, 2).reshape(1, 3, 6, 1, 8),
        "ns": h[:, 0].T,
    }
    script = f"addpath('{SCRIPTS}');"
    for axes, array in cases.items():
        for nested in (False, True):
            content = {"site": {"H": array}} if nested else {"H": array}
            name = f"{axes}{int(nested)}"
            scipy.io.savemat(tmp_path / f"{name}.mat", content)
            precode(tmp_path / f"{name}.mat", tmp_path / f"{name}_r.mat", layout=axes)
            script += f"printf('{name} %g\\n', nflae_check_rates('{name}.mat', '{name}_r.mat'));"
    # The other convention than the layout suggests, and a -v7.3 pair.
    precode(tmp_path / "nks0.mat", tmp_path / "other_r.mat", layout="nks", convention="direct")
    script += "printf('other %g\\n', nflae_check_rates('nks0.mat', 'other_r.mat'));"
    write_channels(tmp_path / "v73.mat", [h], users=3, antennas=8, drops=6, version="7.3")
    precode(tmp_path / "v73.mat", tmp_path / "v73_r.mat")
    script += "[e, r] = nflae_check_rates('v73.mat', 'v73_r.mat'); printf('v73 %g\\n', e);"
    script += "assert(size(r), [3 6]);"
    errors = dict(line.split() for line in octave(script, tmp_path).splitlines())
    assert len(errors) == 2 * len(cases) + 2
    assert max(map(float, errors.values())) < 1e-4
    assert min(map(float, errors.values())) >= 0


@pytest.mark.parametrize("convention", ["hermitian", "direct"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [
        ("nks", (8, 3, 4)),
        ("kns", (3, 8, 4)),
        ("skn", (4, 3, 8)),
        ("snk", (4, 8, 3)),
        ("1nk", (1, 8, 3)),
        ("nk", (8, 3)),
        ("kn", (3, 8)),
        ("nsfk", (8, 2, 2, 3)),
        ("nnks", (4, 2, 3, 4)),
        ("nksc", (8, 3, 4, 2)),
        ("sknc", (4, 3, 8, 2)),
        ("nsks", (8, 2, 3, 2)),
    ],
)
def test_the_printed_formula_is_the_one_that_was_used(
    octave: Octave, tmp_path: Path, axes: str, shape: tuple[int, ...], convention: str
) -> None:
    """Octave evaluates the expression as printed for every user and drop, and finds the rates of the result."""
    rng = np.random.default_rng(1)
    array = rng.standard_normal(shape) + (0 if "c" in axes else 1j * rng.standard_normal(shape))
    scipy.io.savemat(tmp_path / "c.mat", {"H": array})
    notes = precode(tmp_path / "c.mat", tmp_path / "r.mat", axes, convention)
    expression = notes[1].partition(": y_k = ")[2].removesuffix(" * x")
    assert expression
    drops = [letter for letter in axes if letter in "sf"]
    names = [f"s{at}" for at in range(1, 3)] if drops == ["s", "s"] else drops
    sizes = [shape[at] for at, letter in enumerate(axes) if letter in "sf"]
    loops = "".join(f"for {name} = 1:{size}\n" for name, size in zip(names[::-1], sizes[::-1], strict=True))
    script = f"""
    load c.mat; load r.mat
    W = reshape(double(precoder), 8, 3, []); p = reshape(power, 3, []); R = reshape(rate, 3, []); drop = 0;
    {loops}
      drop = drop + 1;
      for k = 1:3
        received = abs({expression} * W(:, :, drop)) .^ 2 .* p(:, drop)';
        assert(log2(1 + received(k) / (sum(received) - received(k) + 0.1)), R(k, drop), 1e-4);
      end
    {"end;" * len(names)}
    assert(drop == size(W, 3)); disp(nflae_check_rates('c.mat', 'r.mat'));
    """
    printed = octave(f"addpath {SCRIPTS}\n" + script, tmp_path)
    assert float(printed) < 1e-4


@pytest.mark.parametrize("receive", ["each", "strongest", "eigen"])
@pytest.mark.parametrize(("axes", "shape"), [("rnks", (2, 16, 3, 4)), ("fsrn", (4, 3, 2, 16)), ("nrk", (16, 2, 3))])
def test_octave_recomputes_rates_of_users_with_several_receive_antennas(
    octave: Octave, tmp_path: Path, axes: str, shape: tuple[int, ...], receive: str
) -> None:
    rng = np.random.default_rng(2)
    scipy.io.savemat(tmp_path / "c.mat", {"H": rng.standard_normal(shape) + 1j * rng.standard_normal(shape)})
    precode(tmp_path / "c.mat", tmp_path / "r.mat", axes, receive=receive)
    assert float(octave(f"addpath {SCRIPTS}\ndisp(nflae_check_rates('c.mat', 'r.mat'))", tmp_path)) < 1e-4


@pytest.mark.parametrize(
    ("save", "layout"),
    [
        ("H = cat(4, real(Z), imag(Z));", "nks"),
        ("H = permute(cat(4, real(Z), imag(Z)), [4, 1, 2, 3]);", "nks"),
        ("H = sparse(Z(:, :, 1));", None),
    ],
)
def test_expressions_that_an_error_advises_work_in_octave(
    octave: Octave, tmp_path: Path, save: str, layout: str | None
) -> None:
    octave(f"Z = reshape(1:24, 4, 2, 3) * (1 - 2i); {save} save -v7 c.mat H", tmp_path)
    with pytest.raises(MatFileError) as caught:
        open_channels(tmp_path / "c.mat", variable="H")
    advice = re.search(r"save ((complex|full)\(.*\))(;| instead)", str(caught.value))
    assert advice is not None
    octave(f"load c.mat; H = squeeze({advice.group(1)}); save -v7 c.mat H", tmp_path)
    with open_channels(tmp_path / "c.mat", layout=layout) as file:
        wanted = (np.arange(1, 25) * (1 - 2j)).reshape(4, 2, 3, order="F").T
        assert np.array_equal(file.read(0, file.drops), wanted[: file.drops].astype(np.complex64))
