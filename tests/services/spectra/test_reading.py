"""Spectrum files in the shapes that beamlines write."""

import numpy as np
import pytest
from tests.reference import reference_path

from nearedge_db.errors import UserError
from nearedge_services.spectra.reading import read_spectrum, write_spectrum
from nearedge_services.spectra.spectrum import Spectrum

ENERGIES = [280.0, 281.0, 282.5, 283.0, 284.0, 285.25]
VALUES = [0.01, 0.02, 0.05, 0.4, 0.9, 1.1]

XDI = """# XDI/1.0 GSE/1.0
# Column.1: energy eV
# Column.2: i0
# Column.3: mutrans
# Element.symbol: C
# ///
# a comment
#----
# energy i0 mutrans
"""
ATHENA_NOR = """# Athena data file -- Demeter version 0.9.26
# Element: C
#------------------------
#  energy  norm  nbkg  flat  fbkg  nder
"""


def write(tmp_path, text, name="spectrum.dat"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def rows(template):
    return "".join(template.format(e=e, v=v) + "\n" for e, v in zip(ENERGIES, VALUES, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        rows("{e} {v}"),
        rows("  {e}\t{v}"),
        rows("{e},{v}"),
        rows("{e}, {v}"),
        "energy_eV,intensity\n" + rows("{e},{v}"),
        "# made today\nEnergy (eV);Signal\n" + rows("{e};{v}"),
        "E;I\n" + rows("{e};{v}").replace(".", ","),
        "\ufeffPE/eV,AbNorm_1\r\n" + rows("{e},{v}").replace("\n", "\r\n") + "\r\n,\r\n",
        "intensity,energy\n" + rows("{v},{e}"),
        XDI + rows("{e} 5.0 {v}"),
        ATHENA_NOR + rows("{e} {v} 0.1 0.2 0.3 0.4"),
        "#  energy  bkg  xmu  stddev\n" + rows("{e} 9.0 {v} 7.0"),
    ],
)
def test_reads_the_same_spectrum_from_any_layout(tmp_path, text):
    spectrum = read_spectrum(write(tmp_path, text))
    np.testing.assert_allclose(spectrum.energies_ev, ENERGIES)
    np.testing.assert_allclose(spectrum.intensity, VALUES)


def test_choice_of_columns_is_recorded(tmp_path):
    spectrum = read_spectrum(write(tmp_path, ATHENA_NOR + rows("{e} {v} 0.1 0.2 0.3 0.4"), "dlc.nor"))
    assert spectrum.history == ("read dlc.nor", "columns 'energy' as energy and 'norm' as intensity")


def test_kev_is_converted_where_the_header_says_so(tmp_path):
    text = "# Column.1: energy keV\n# Column.2: mu\n" + "".join(f"{e / 1000} {e}\n" for e in ENERGIES)
    spectrum = read_spectrum(write(tmp_path, text))
    np.testing.assert_allclose(spectrum.energies_ev, ENERGIES)
    assert "keV" in spectrum.history[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows("{e} {v}").replace("282.5", "279"), "line 3 of the spectrum descends.*281 eV, then 279"),
        ("# one\n" + rows("{e} {v}").replace("282.5", "281.0"), "line 4 of the spectrum repeats"),
        (rows("{e} {v}").replace("0.05", "nan"), "line 3 of the spectrum is not finite"),
        ("280 1\n281 2\n282 3\n", "fewer than 5 points.*3 rows"),
        ("", "fewer than 5 points"),
        (rows("{e}"), "one column"),
        (rows("{e} {v}") + "total 12\n", "line 7 of the spectrum is not like"),
        (rows("{e} {v}") + "286 1 2\n", "line 7 of the spectrum is not like"),
        ("# Column.1: angle degrees\n# Column.2: mutrans\n" + rows("{e} {v}"), "angles and no energies"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_spectrum(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_spectrum(tmp_path / "none.csv")
    binary = tmp_path / "project.prj"
    binary.write_bytes(b"\x1f\x8b\x00\x01")
    with pytest.raises(UserError, match="not plain text"):
        read_spectrum(binary)


def test_writing_and_reading_keep_every_digit(tmp_path):
    rng = np.random.default_rng(1)
    original = Spectrum(np.cumsum(rng.uniform(0.01, 1, 50)), rng.normal(size=50) * 1e-7)
    write_spectrum(tmp_path / "s.csv", original)
    back = read_spectrum(tmp_path / "s.csv")
    np.testing.assert_array_equal(back.energies_ev, original.energies_ev)
    np.testing.assert_array_equal(back.intensity, original.intensity)
    assert (tmp_path / "s.csv").read_text(encoding="utf-8").startswith("energy_eV,intensity\n")


def test_a_file_that_cannot_be_written_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        write_spectrum(tmp_path, Spectrum(np.arange(6.0), np.ones(6)))


def test_reference_experiment():
    spectrum = read_spectrum(reference_path("dlc_experiment/CK_DLC_experimental_NEXAFS.csv"))
    assert spectrum.range_ev == (270.7, 320.7)
    assert len(spectrum.energies_ev) == 251
    pi_star = spectrum.cut(284, 287)
    assert pi_star.energies_ev[pi_star.intensity.argmax()] == pytest.approx(285.1, abs=0.11)
    assert spectrum.energies_ev[spectrum.intensity.argmax()] == pytest.approx(298.1, abs=0.11)
