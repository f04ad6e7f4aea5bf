"""Guards on whole answers: which reason comes first, and that a text which keeps to its source passes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marco_data.generation.generator import ERROR, LENGTH, STOP, Completion
from marco_data.generation.guards import REASONS, Limits, Verdict, check, finished, loop_turns, units
from marco_data.languages import LANGUAGES, canonical

SOURCE = (
    "The town library opened in 1987 and lends 42,000 books a year. Members may borrow six at a time. "
    "Children visit on Saturday mornings, when volunteers read stories aloud in the garden behind the hall."
)
REWRITTEN = (
    "Opened in 1987, the library of the town lends about 42,000 books every year, and members can borrow up to six "
    "of them together. On Saturday mornings volunteers read stories to children in the garden behind its hall."
)
PROMPT = "Rewrite the text below as a clear article of an encyclopedia, and keep all facts and numbers as they are."

# The same few sentences in sixteen languages: text to pass, and to spoil.
LIBRARY = {
    "deu_Latn": "Die Bücherei der Stadt wurde 1987 eröffnet und verleiht jedes Jahr 42.000 Bücher. Am Samstag lesen "
    "Freiwillige den Kindern im Garten hinter dem Rathaus Geschichten vor.",
    "fra_Latn": "La bibliothèque de la ville a ouvert en 1987 et prête 42 000 livres par an. Le samedi matin, des "
    "bénévoles lisent des histoires aux enfants dans le jardin derrière la mairie.",
    "spa_Latn": "La biblioteca del pueblo abrió en 1987 y presta 42.000 libros al año. Los sábados por la mañana los "
    "voluntarios leen cuentos a los niños en el jardín detrás del ayuntamiento.",
    "rus_Cyrl": "Городская библиотека открылась в 1987 году и выдаёт 42 000 книг в год. По субботам утром добровольцы "
    "читают детям сказки в саду за ратушей.",
    "kaz_Cyrl": "Қалалық кітапхана 1987 жылы ашылып, жылына 42 000 кітап береді. Сенбі күні таңертең еріктілер "
    "балаларға әкімдіктің артындағы бақта ертегі оқып береді.",
    "ind_Latn": "Perpustakaan kota dibuka pada tahun 1987 dan meminjamkan 42.000 buku setiap tahun. Pada Sabtu pagi "
    "para sukarelawan membacakan cerita untuk anak-anak di taman di belakang balai kota.",
    "vie_Latn": "Thư viện của thị trấn mở cửa năm 1987 và cho mượn 42.000 cuốn sách mỗi năm. Sáng thứ bảy, các tình "
    "nguyện viên đọc truyện cho trẻ em nghe trong khu vườn phía sau tòa thị chính.",
    "tur_Latn": "Kasabanın kütüphanesi 1987 yılında açıldı ve yılda 42.000 kitap ödünç veriyor. Cumartesi sabahları "
    "gönüllüler belediyenin arkasındaki bahçede çocuklara öyküler okuyor.",
    "arb_Arab": "افتتحت مكتبة المدينة عام ١٩٨٧ وهي تعير ٤٢٠٠٠ كتاب كل سنة. في صباح السبت يقرأ المتطوعون القصص للأطفال "
    "في الحديقة خلف دار البلدية.",
    "fas_Arab": "کتابخانه شهر در سال ۱۹۸۷ باز شد و هر سال ۴۲۰۰۰ کتاب امانت می‌دهد. صبح شنبه داوطلبان در باغ پشت "
    "شهرداری برای کودکان داستان می‌خوانند.",
    "hin_Deva": "शहर का पुस्तकालय १९८७ में खुला और हर साल ४२,००० किताबें उधार देता है। शनिवार की सुबह स्वयंसेवक नगर "
    "भवन के पीछे के बगीचे में बच्चों को कहानियाँ पढ़कर सुनाते हैं।",
    "ben_Beng": "শহরের গ্রন্থাগারটি ১৯৮৭ সালে খোলা হয় এবং বছরে ৪২,০০০ বই ধার দেয়। শনিবার সকালে স্বেচ্ছাসেবকরা "
    "পৌরসভার পেছনের বাগানে শিশুদের গল্প পড়ে শোনান।",
    "tha_Thai": "ห้องสมุดของเมืองเปิดเมื่อปี ๑๙๘๗ และให้ยืมหนังสือปีละ ๔๒,๐๐๐ เล่ม ทุกเช้าวันเสาร์ "
    "อาสาสมัครอ่านนิทานให้เด็ก ๆ ฟังในสวนหลังศาลากลาง",
    "kor_Hang": "마을 도서관은 1987년에 문을 열었고 해마다 책 4만 2000권을 빌려준다. 토요일 아침이면 자원봉사자들이 "
    "시청 뒤 정원에서 아이들에게 이야기를 읽어 준다.",
    "jpn_Jpan": "町の図書館は1987年に開館し、年に42000冊の本を貸し出している。土曜日の朝には、役場の裏の庭で"
    "ボランティアが子どもたちに物語を読み聞かせる。",
    "zho_Hans": "镇上的图书馆于1987年开放，每年借出42000本书。星期六上午，志愿者在市政厅后面的花园里给孩子们读故事。",
}


def reason(text, language="eng_Latn", **of):
    found = check(text, language=canonical(language), **of)
    return None if found is None else found.reason


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (Completion("x", ERROR, error="prompt_too_long"), Verdict("prompt_too_long")),
        (Completion("cut", LENGTH, tokens_out=7), Verdict("truncated", 7.0)),
        (Completion(" \n—", STOP), Verdict("empty")),
        (Completion("Ja.", STOP), None),
    ],
)
def test_how_a_completion_ended_is_judged_first(completion, expected):
    assert finished(completion) == expected


def test_a_rewrite_that_keeps_to_its_source_passes():
    assert reason(REWRITTEN, source=SOURCE, prompt=PROMPT) is None


@pytest.mark.parametrize("language", LIBRARY)
def test_a_text_in_the_language_asked_passes_as_an_answer_and_as_a_translation(language):
    assert reason(LIBRARY[language], language) is None
    assert reason(LIBRARY[language], language, source=SOURCE, same_language=False) is None


@pytest.mark.parametrize("language", LIBRARY)
def test_english_instead_of_the_language_asked_is_rejected(language):
    assert reason(REWRITTEN, language) in {"wrong_language", "wrong_script"}


@pytest.mark.parametrize("language", LIBRARY)
def test_an_answer_that_goes_on_in_english_is_rejected(language):
    assert reason(f"{LIBRARY[language]}\n{REWRITTEN}", language) in {"wrong_language", "wrong_script"}


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("deu_Latn", "fra_Latn"),
        ("rus_Cyrl", "kaz_Cyrl"),
        ("kaz_Cyrl", "rus_Cyrl"),
        ("fas_Arab", "arb_Arab"),
        ("zho_Hans", "jpn_Jpan"),
        ("jpn_Jpan", "kor_Hang"),
        ("hin_Deva", "ben_Beng"),
        ("ind_Latn", "vie_Latn"),
    ],
)
def test_another_language_than_asked_is_rejected(asked, given):
    assert reason(LIBRARY[given], asked) in {"wrong_language", "wrong_script"}


@pytest.mark.parametrize("language", ["eng_Latn", "tha_Thai", "rus_Cyrl"])
def test_chinese_words_that_slip_into_another_writing_are_rejected(language):
    text = {"eng_Latn": REWRITTEN, **LIBRARY}[language]
    assert reason(f"{text} 图书馆", language) == "wrong_script"
    assert reason(f"{text} 图书馆", language, source=f"{text} 图书馆", limits=Limits(max_copied=None)) is None


TRADITIONAL = "鎮上的圖書館於1987年開放，每年借出42000本書。星期六上午，志願者在市政廳後面的花園裡給孩子們讀故事。"
MALAY = (
    "Perpustakaan bandar itu dibuka pada tahun 1987 dan meminjamkan 42,000 buah buku setiap tahun. Pada pagi Sabtu, "
    "sukarelawan membacakan cerita kepada kanak-kanak di taman di belakang dewan bandaraya kerana ibu bapa mereka "
    "sibuk bekerja. Ahli perpustakaan boleh meminjam enam buah buku sekali gus, manakala pelajar universiti pula boleh "
    "meminjam sehingga sepuluh buah. Encik Rahman berkata beliau gembira dengan sambutan orang ramai sejak tahun lepas."
)


def test_neighbours_are_told_apart_where_letters_or_much_evidence_do():
    assert reason(TRADITIONAL, "zho_Hans") == "wrong_script"
    assert reason(LIBRARY["zho_Hans"], "jpn_Jpan") == "wrong_script"
    assert reason(MALAY, "ind_Latn") == "wrong_language"
    assert reason(MALAY, "zsm_Latn") is None


@pytest.mark.parametrize("text", ["Ja.", "42", "Blau und grün", "Berlin", "H₂O", "https://example.org/a"])
def test_a_short_answer_says_nothing_of_its_language(text):
    assert reason(text, "deu_Latn") is None


def test_formulas_code_and_addresses_are_in_no_language():
    text = LIBRARY["rus_Cyrl"] + " $\\frac{distance}{time} = velocity$ `for item in shopping_list: print(item)`"
    assert reason(text, "rus_Cyrl") is None


# What is done to the rewrite of SOURCE, and the reason that it gets for it.
SPOILED = [
    ("", "empty"),
    ("...", "empty"),
    (f"{REWRITTEN} <|im_end|>", "prompt_leak"),
    (f"{REWRITTEN} [[language]]", "prompt_leak"),
    (f"{PROMPT} {REWRITTEN}", "prompt_leak"),
    ("I'm sorry, but I can't rewrite this text.", "refusal"),
    (f"As an AI language model, I think that {REWRITTEN}", "refusal"),
    (f"Sure! {REWRITTEN}", "meta_text"),
    (f"Here is the article you asked for:\n\n{REWRITTEN}", "meta_text"),
    (f"{REWRITTEN}\n\nLet me know if you need anything else.", "meta_text"),
    ("The library opened in 1987.", "too_short"),
    (REWRITTEN * 4, "too_long"),
    (REWRITTEN + " It is open." * 9, "repetition"),
    (SOURCE, "copied"),
    (
        "Whales feed in the cold waters near Iceland through the summer, and their calves are born in winter, far to "
        "the south, where the sea is warm and quiet.",
        "off_topic",
    ),
    (f"{REWRITTEN} See https://library.example.org for more.", "invented_url"),
    (REWRITTEN.replace("42,000", "47,000"), "invented_number"),
    (REWRITTEN.replace("1987", "1978"), "invented_number"),
    (
        REWRITTEN.replace("volunteers", "volunteers from Velkonberg, Ostrandia and the Pelluwick Society"),
        "invented_name",
    ),
]


@pytest.mark.parametrize(("text", "expected"), SPOILED)
def test_each_fault_has_its_reason(text, expected):
    assert reason(text, source=SOURCE, prompt=PROMPT) == expected


def test_every_reason_is_one_that_makers_are_told_of():
    assert {expected for _, expected in SPOILED} < REASONS
    assert REASONS - {expected for _, expected in SPOILED} == {"truncated", "wrong_script", "wrong_language"}


def test_a_translation_is_off_topic_when_nothing_of_the_source_survives_in_it():
    source = SOURCE + " In 1993 a fire destroyed 3,500 of them; Margaret and Thomas Ashworth gave 12,750 new ones."
    other = LIBRARY["deu_Latn"].replace("1987", "1711").replace("42.000", "11") + " Der Fluss ist lang und breit."
    assert reason(other, "deu_Latn", source=source, same_language=False) == "off_topic"


def test_translations_between_spaced_and_unspaced_scripts_are_of_like_length():
    english = units(SOURCE.replace("Members may borrow six at a time. ", ""))
    assert {code: 0.6 < units(text) / english < 1.5 for code, text in LIBRARY.items()} == dict.fromkeys(LIBRARY, True)


@pytest.mark.parametrize(
    ("words", "turns"),
    [
        ([], 0),
        (["a"], 1),
        (["a", "b", "c"], 1),
        (["a", "a", "a"], 3),
        (["x", "a", "b", "a", "b", "a", "b"], 3),
        (["...", "..."], 0),
    ],
)
def test_turns_of_a_loop_are_counted(words, turns):
    assert loop_turns(words) == turns


@pytest.mark.parametrize("language", LIBRARY)
def test_a_sentence_said_over_and_over_is_a_loop(language):
    assert reason(LIBRARY[language] * 8, language) == "repetition"


def test_a_limit_of_none_sets_a_guard_aside_and_one_that_is_equal_is_within():
    measured = check(SOURCE, language=canonical("en"), source=REWRITTEN, limits=Limits(min_length_ratio=0.999)).measured
    assert reason(SOURCE, source=REWRITTEN, limits=Limits(min_length_ratio=measured)) is None
    everything_off = Limits(
        **{name: None for name in Limits.model_fields if name not in ("phrases", "leaks")}, phrases=False, leaks=False
    )
    for text, expected in SPOILED[2:]:
        assert reason(text, source=SOURCE, prompt=PROMPT, limits=everything_off) is None, expected


@settings(deadline=None, max_examples=60)
@given(text=st.text(), source=st.text(), code=st.sampled_from(sorted(LANGUAGES)), same=st.booleans())
def test_no_text_breaks_a_guard(text, source, code, same):
    found = check(text, language=LANGUAGES[code], source=source, same_language=same, prompt=source)
    assert found is None or found.reason in REASONS


def test_a_lone_surrogate_is_text_too():
    assert reason(f"{REWRITTEN} \ud83d", source=SOURCE) is None


@pytest.mark.parametrize("piece", ["a", "1", "1,", "@", "一", ".a", "A ", "[[", "``"])
def test_a_huge_text_of_one_piece_is_judged_in_good_time(piece):
    assert reason(piece * (200_000 // len(piece)), "eng_Latn", source=SOURCE) in REASONS


def test_a_verdict_depends_on_nothing_that_was_judged_before():
    texts = [text for text, _ in SPOILED] + [REWRITTEN]
    alone = [reason(text, source=SOURCE, prompt=PROMPT) for text in texts]
    assert [reason(text, source=SOURCE, prompt=PROMPT) for text in reversed(texts)] == alone[::-1]
