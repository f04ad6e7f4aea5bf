"""Every scheme's code of each of our languages, and the codes that look like ours and are not."""

import csv
from importlib import resources

import pytest

from marco_data.errors import RecipeError
from marco_data.languages import LANGUAGES, canonical, from_label

# ours: (BCP-47 short code = lid.176's label, FLORES-200 / lid218, FineWeb-2 = GlotLID)
TABLE = """
eng_Latn en eng_Latn eng_Latn
zho_Hans zh zho_Hans cmn_Hani
arb_Arab ar arb_Arab arb_Arab
deu_Latn de deu_Latn deu_Latn
spa_Latn es spa_Latn spa_Latn
fra_Latn fr fra_Latn fra_Latn
kor_Hang ko kor_Hang kor_Hang
jpn_Jpan ja jpn_Jpan jpn_Jpan
por_Latn pt por_Latn por_Latn
tur_Latn tr tur_Latn tur_Latn
ind_Latn id ind_Latn ind_Latn
ita_Latn it ita_Latn ita_Latn
nld_Latn nl nld_Latn nld_Latn
pol_Latn pl pol_Latn pol_Latn
rus_Cyrl ru rus_Cyrl rus_Cyrl
vie_Latn vi vie_Latn vie_Latn
tha_Thai th tha_Thai tha_Thai
heb_Hebr he heb_Hebr heb_Hebr
ukr_Cyrl uk ukr_Cyrl ukr_Cyrl
zsm_Latn ms zsm_Latn zsm_Latn
ben_Beng bn ben_Beng ben_Beng
ces_Latn cs ces_Latn ces_Latn
urd_Arab ur urd_Arab urd_Arab
kaz_Cyrl kk kaz_Cyrl kaz_Cyrl
ell_Grek el ell_Grek ell_Grek
ron_Latn ro ron_Latn ron_Latn
hun_Latn hu hun_Latn hun_Latn
npi_Deva ne npi_Deva npi_Deva
azj_Latn az azj_Latn azj_Latn
dan_Latn da dan_Latn dan_Latn
swe_Latn sv swe_Latn swe_Latn
nob_Latn no nob_Latn nob_Latn
cat_Latn ca cat_Latn cat_Latn
glg_Latn gl glg_Latn glg_Latn
cym_Latn cy cym_Latn cym_Latn
gle_Latn ga gle_Latn gle_Latn
eus_Latn eu eus_Latn eus_Latn
hrv_Latn hr hrv_Latn hrv_Latn
lvs_Latn lv lvs_Latn lvs_Latn
lit_Latn lt lit_Latn lit_Latn
slk_Latn sk slk_Latn slk_Latn
slv_Latn sl slv_Latn slv_Latn
ekk_Latn et est_Latn ekk_Latn
fin_Latn fi fin_Latn fin_Latn
srp_Cyrl sr srp_Cyrl srp_Cyrl
bul_Cyrl bg bul_Cyrl bul_Cyrl
fas_Arab fa pes_Arab fas_Arab
mlt_Latn mt mlt_Latn mlt_Latn
hin_Deva hi hin_Deva hin_Deva
mar_Deva mr mar_Deva mar_Deva
guj_Gujr gu guj_Gujr guj_Gujr
pan_Guru pa pan_Guru pan_Guru
tam_Taml ta tam_Taml tam_Taml
tel_Telu te tel_Telu tel_Telu
fil_Latn tl tgl_Latn fil_Latn
jav_Latn jv jav_Latn jav_Latn
khm_Khmr km khm_Khmr khm_Khmr
lao_Laoo lo lao_Laoo lao_Laoo
mya_Mymr my mya_Mymr mya_Mymr
amh_Ethi am amh_Ethi amh_Ethi
swh_Latn sw swh_Latn swh_Latn
yor_Latn yo yor_Latn yor_Latn
ibo_Latn ig ibo_Latn ibo_Latn
zul_Latn zu zul_Latn zul_Latn
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]

NOT_OURS = [
    "nno",
    "nno_Latn",
    "nn",
    "yue",
    "yue_Hant",
    "zho_Hant",
    "zh-Hant",
    "zh-TW",
    "lzh",
    "bos",
    "bos_Latn",
    "bs",
    "srp_Latn",
    "sr-Latn",
    "sh",
    "hbs",
    "cnr",
    "prs",
    "prs_Arab",
    "arz",
    "arz_Arab",
    "azb",
    "azb_Arab",
    "ltg_Latn",
    "jav_Java",
    "pnb_Arab",
    "und",
    "und_Latn",
    "ceb",
    "mkd_Cyrl",
    "khk_Cyrl",
    "xho",
    "kmr",
    "uzn",
    "zxx_Code",
    "zxx_Filler",
    "zxx_Noise",
]


def test_the_table_covers_every_language_in_order():
    assert [row[0] for row in ROWS] == list(LANGUAGES)
    assert len(LANGUAGES) == 64


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_scheme_leads_to_the_same_language(row):
    code, short, flores, glotlid = row
    script = code[4:]
    spellings = [code, short, flores, glotlid, code[:3], f"{short}-{script}", code.upper(), code.replace("_", "-")]
    for spelling in spellings:
        assert canonical(spelling) is LANGUAGES[code], spelling
        assert from_label(spelling) == code
        assert from_label(f"__label__{spelling}") == code


@pytest.mark.parametrize(
    ("spelling", "code"),
    [("nb", "nob_Latn"), ("fil", "fil_Latn"), ("iw", "heb_Hebr"), ("zh-CN", "zho_Hans"), ("ko-Kore", "kor_Hang"),
     ("msa_Latn", "zsm_Latn"), ("nor_Latn", "nob_Latn"), ("ara_Arab", "arb_Arab"), ("swa", "swh_Latn")],
)  # fmt: skip
def test_spellings_beside_the_schemes_are_known(spelling, code):
    assert canonical(spelling).code == code


@pytest.mark.parametrize("code", NOT_OURS)
def test_a_neighbour_is_never_taken_for_ours(code):
    assert from_label(f"__label__{code}") == code
    with pytest.raises(RecipeError, match="not one of the 64"):
        canonical(code)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("ben_Bang", "ben_Beng"), ("Bengali", "ben_Beng"), ("chinese", "zho_Hans"), ("Portugese", "por_Latn"),
     ("zho_Hant", "zho_Hans"), ("Khmer_", "khm_Khmr")],
)  # fmt: skip
def test_a_wrong_code_is_answered_with_the_one_meant(written, meant):
    with pytest.raises(RecipeError) as error:
        canonical(written)
    assert meant in (error.value.hint or "")


def test_a_code_near_to_nothing_is_answered_with_how_codes_look():
    with pytest.raises(RecipeError) as error:
        canonical("qqqq")
    assert "ISO 639-3" in (error.value.hint or "")


def test_no_spelling_belongs_to_two_languages():
    seen: dict[str, str] = {}
    for language in LANGUAGES.values():
        for spelling in {language.iso639_1, language.code[:3], *language.aliases}:
            assert seen.setdefault(spelling.lower(), language.code) == language.code


def test_languages_without_spaces_are_shingled_by_characters():
    unspaced = {code for code, language in LANGUAGES.items() if language.words == "dictionary"}
    assert unspaced == {"zho_Hans", "jpn_Jpan", "tha_Thai", "khm_Khmr", "lao_Laoo", "mya_Mymr"}
    for code, language in LANGUAGES.items():
        assert (language.shingle_unit == "character") == (code in unspaced)
        assert language.shingle_size == 5 or code in unspaced
        assert language.scripts


@pytest.mark.parametrize("file", ["fineweb2_limits.csv", "stop_words.csv"])
def test_every_language_has_limits_and_stop_words(file):
    text = resources.files("marco_data.languages").joinpath(file).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert list(dict.fromkeys(row["language"] for row in rows)) == list(LANGUAGES)
    assert all(value.strip() for row in rows for value in row.values())
