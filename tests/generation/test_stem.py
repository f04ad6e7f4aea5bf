"""A STEM problem comes out in another language with its formulas, numbers and answer, or with a reason."""

import asyncio
import io
import json
from collections import defaultdict

import pytest
import zstandard

from marco_data.generation.generator import ERROR, LENGTH, STOP, Completion
from marco_data.generation.maker import Seed
from marco_data.generation.problem import Explanation, Problem, find
from marco_data.generation.prompt import load_prompt
from marco_data.generation.stem import ProblemLimits, Stem, parse, parse_solution
from marco_data.languages import canonical

DIGESTS = {"stem_translate@1": "9782ad60210985b9", "stem_solve@1": "8cc063d17c6adac4"}
"""What a used version says is never changed: another text is another version."""

ENGLISH = """A rope is 15 cm long. Mia buys 3 notebooks for $2.50 each and the rope for $1,200. How much does she pay?
The notebooks cost 3 times 2.50, and with \\(1200\\) for the rope it is the sum of both.
Answer: 1207.50"""
SEED = Seed("s1", ENGLISH, "eng_Latn", "maths")

# problem, solution, answer; ⟦1⟧ stands for `15 cm`, ⟦2⟧ for `\(1200\)`
TRANSLATIONS = {
    "deu_Latn": (
        "Ein Seil ist ⟦1⟧ lang. Mia kauft 3 Hefte für je 2,50 $ und das Seil für 1.200 $. Wie viel bezahlt sie?",
        "Die Hefte kosten 3 mal 2,50, und mit ⟦2⟧ für das Seil ist es die Summe von beidem.",
        "1.207,50 $",
    ),
    "fra_Latn": (
        "Une corde mesure ⟦1⟧. Mia achète 3 cahiers à 2,50 $ pièce et la corde à 1 200 $. Combien paie-t-elle ?",
        "Les cahiers coûtent 3 fois 2,50, et avec ⟦2⟧ pour la corde, c'est la somme des deux.",
        "1 207,50 $",
    ),
    "spa_Latn": (
        "Una cuerda mide ⟦1⟧. Mía compra 3 cuadernos a 2,50 $ cada uno y la cuerda por 1200 $. ¿Cuánto paga?",
        "Los cuadernos cuestan 3 por 2,50, y con ⟦2⟧ de la cuerda es la suma de ambos.",
        "1207,5 dólares",
    ),
    "rus_Cyrl": (
        "Длина верёвки ⟦1⟧. Миша покупает 3 тетради по 2,50 доллара и верёвку за 1200 долларов. Сколько он платит?",
        "Тетради стоят 3 раза по 2,50, а вместе с ⟦2⟧ за верёвку получается сумма обоих чисел.",
        "1207,50",
    ),
    "arb_Arab": (
        "طول الحبل ⟦1⟧. تشتري ليلى ٣ دفاتر بسعر ٢٫٥٠ دولار للدفتر الواحد والحبل بسعر ١٬٢٠٠ دولار. كم تدفع في المجموع؟",
        "ثمن الدفاتر ٣ مضروبًا في ٢٫٥٠، ومع ⟦2⟧ ثمنًا للحبل نحصل على مجموع الاثنين.",
        "١٢٠٧٫٥٠",
    ),
    "hin_Deva": (
        "एक रस्सी ⟦1⟧ लंबी है। "
        "मीना २.५० डॉलर प्रति कॉपी के हिसाब से ३ कॉपियाँ और १,२०० डॉलर में रस्सी खरीदती है। वह कुल कितना चुकाती है?",
        "कॉपियों का दाम ३ गुणा २.५० है, और रस्सी के ⟦2⟧ जोड़ने पर दोनों का योग मिलता है।",
        "१२०७.५०",
    ),
    "ben_Beng": (
        "একটি দড়ি ⟦1⟧ লম্বা। মিনা ২.৫০ ডলার করে ৩টি খাতা এবং ১,২০০ ডলারে দড়িটি কেনে। সে মোট কত টাকা দেয়?",
        "খাতাগুলোর দাম ৩ গুণ ২.৫০, আর দড়ির ⟦2⟧ যোগ করলে দুটির যোগফল পাওয়া যায়।",
        "১২০৭.৫০ ডলার",
    ),
    "zho_Hans": (
        "一根绳子长⟦1⟧。小美买了3本笔记本，每本2.50美元，又花1200美元买了这根绳子。她一共付了多少钱？",
        "笔记本的价格是3乘以2.50，再加上绳子的⟦2⟧，就是两者之和。",
        "1207.5美元",
    ),
    "jpn_Jpan": (
        "ロープの長さは⟦1⟧です。美香さんは1冊2.50ドルのノートを3冊と、1,200ドルのロープを買いました。全部でいくら払いますか。",
        "ノートの代金は2.50の3倍で、ロープの⟦2⟧を足すと両方の合計になります。",
        "1207.5ドル",
    ),
    "kor_Hang": (
        "밧줄의 길이는 ⟦1⟧입니다. 미나는 한 권에 2.50달러인 공책 3권과 1,200달러짜리 밧줄을 샀습니다. "
        "모두 얼마를 냅니까?",
        "공책값은 2.50의 3배이고, 밧줄값 ⟦2⟧을 더하면 두 값의 합이 됩니다.",
        "1207.5달러",
    ),
    "tha_Thai": (
        "เชือกยาว ⟦1⟧ มีนาซื้อสมุด 3 เล่ม เล่มละ 2.50 ดอลลาร์ และซื้อเชือกราคา 1,200 ดอลลาร์ เธอจ่ายเงินทั้งหมดเท่าไร",
        "ค่าสมุดเท่ากับ 3 คูณ 2.50 และเมื่อรวมค่าเชือก ⟦2⟧ ก็จะได้ผลรวมของทั้งสองอย่าง",
        "1,207.50 ดอลลาร์",
    ),
    "swh_Latn": (
        "Kamba ina urefu wa ⟦1⟧. Amina ananunua madaftari 3 kwa dola 2.50 kila moja na kamba kwa dola 1,200. "
        "Je, analipa kiasi gani kwa jumla?",
        "Madaftari yanagharimu mara 3 ya 2.50, na ukiongeza ⟦2⟧ za kamba unapata jumla ya vyote viwili.",
        "Dola 1207.50",
    ),
}


def framed(problem, solution, answer):
    return f"<problem>{problem}</problem>\n<solution>{solution}</solution>\n<answer>{answer}</answer>"


class Answers:
    """An Ask of written answers: by prompt in order, the last one again and again; it keeps what it was asked."""

    def __init__(self, **answers):
        self.answers = {name: list(texts) for name, texts in answers.items()}
        self.asked = defaultdict(list)

    async def __call__(self, request):
        name = request.prompt.partition("@")[0]
        self.asked[name].append(request)
        texts = self.answers[name]
        answer = texts.pop(0) if len(texts) > 1 else texts[0]
        return answer if isinstance(answer, Completion) else Completion(answer, STOP)


def make(maker, ask, language="deu_Latn", seed=SEED, ordinal=0, attempt=0):
    return asyncio.run(maker.make(seed, canonical(language), ordinal, ask, attempt))


@pytest.mark.parametrize("name", DIGESTS)
def test_shipped_prompts_are_frozen(name):
    assert load_prompt(name).digest == DIGESTS[name]


def test_worked_examples_are_read_by_the_parsers():
    translate, solve = load_prompt("stem_translate@1").example, load_prompt("stem_solve@1").example
    assert parse(translate.completion, ("problem", "solution", "answer")) == translate.parsed
    assert parse_solution(solve.completion) == solve.parsed


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("How many?\nTwo and two.\n#### 4", Problem("How many?", "Two and two.", "4")),
        ("He has 8. How many left?\n8/2=<<8/2=4>>4\n#### 4", Problem("He has 8. How many left?", "8/2=4", "4")),
        ("How many?\nTwo and two.\nFinal answer: 4", Problem("How many?", "Two and two.", "4")),
        ("Find x if 2x = 8.\nWe get \\boxed{4}.", Problem("Find x if 2x = 8.", "We get \\boxed{4}.", "4")),
        (
            "Is it?\nSo \\(\\boxed{\\frac{1}{2}}\\).",
            Problem("Is it?", "So \\(\\boxed{\\frac{1}{2}}\\).", "\\frac{1}{2}"),
        ),
        (
            "Problem: Find it.\nOr not.\nSolution: It is here.\nAnswer: **7**",
            Problem("Find it.\nOr not.", "It is here.", "7"),
        ),
        (
            "How long is it?\nLong. The answer is 12 cm.",
            Problem("How long is it?", "Long. The answer is 12 cm.", "12 cm"),
        ),
        ("What happens?\nIt grows.\nAnswer: It grows", Explanation("What happens?\nIt grows.\nAnswer: It grows")),
        ("Force is mass times acceleration.", Explanation("Force is mass times acceleration.")),
        ("12 + 5", None),
        ("  \n", None),
    ],
)
def test_problem_solution_and_answer_are_found(text, found):
    assert find(text) == found


def test_every_word_problem_of_real_text_is_found_with_its_answer(test_data):
    with (test_data / "stem" / "stem_en.jsonl.zst").open("rb") as file:
        rows = [
            json.loads(line) for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        ]
    kinds = {(row["field"], type(find(row["text"]))) for row in rows}
    assert kinds == {
        ("grade-school maths word problem", Problem),
        ("physics textbook", Explanation),
        ("arXiv LaTeX source", Explanation),
    }
    for row in rows:
        if isinstance(found := find(row["text"]), Problem):
            assert row["text"].startswith(found.problem)
            assert row["text"].endswith("Answer: " + found.answer)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translation_comes_out_whole_with_labels_of_its_language(language):
    made = make(Stem(), Answers(stem_translate=[framed(*TRANSLATIONS[language])]), language)
    assert (made.reason, made.measured) == (None, None)
    assert "15 cm" in made.text
    assert "\\(1200\\)" in made.text
    assert "⟦" not in made.text
    assert not any(label in made.text for label in ("Problem:", "Answer:"))
    assert made.labels == {"kind": "problem", "key": "1207.50"}
    assert made.prompts == ("stem_translate@1",)


def test_the_model_never_sees_what_it_must_not_touch():
    ask = Answers(stem_translate=[framed(*TRANSLATIONS["deu_Latn"])])
    make(Stem(), ask)
    (request,) = ask.asked["stem_translate"]
    told = "\n".join(content for _, content in request.messages)
    assert "15 cm" not in told
    assert "\\(1200\\)" not in told
    assert "A rope is ⟦1⟧ long." in told
    assert "Schreibe deine gesamte Antwort auf Deutsch." in told


PROBLEM, SOLUTION, ANSWER = TRANSLATIONS["deu_Latn"]
REJECTED = {
    "not_recorded": Completion("", ERROR, error="not_recorded"),
    "prompt_too_long": Completion("", ERROR, error="prompt_too_long"),
    "truncated": Completion(framed(PROBLEM, SOLUTION, ANSWER), LENGTH, tokens_out=8192),
    "empty": "",
    "unparsable": f"<problem>{PROBLEM}</problem><answer>{ANSWER}</answer>",
    "placeholder_lost": framed(PROBLEM.replace("⟦1⟧", "15 cm"), SOLUTION, ANSWER),
    "answer_changed": framed(PROBLEM, SOLUTION, "1.208,50 $"),
    "number_lost": framed(PROBLEM.replace("2,50", "3,50"), SOLUTION, ANSWER),
    "invented_number": framed(PROBLEM, SOLUTION.replace("das Seil", "das Seil von 9.876 Metern"), ANSWER),
    "wrong_language": framed(
        "A rope is ⟦1⟧ long. Mia buys 3 notebooks for $2.50 each and the rope for $1,200. How much does she pay?",
        "The notebooks cost 3 times 2.50, and with ⟦2⟧ for the rope it is the sum of both of them together.",
        ANSWER,
    ),
    "wrong_script": framed(*TRANSLATIONS["rus_Cyrl"][:2], ANSWER),
}


@pytest.mark.parametrize("reason", REJECTED)
def test_a_bad_translation_is_rejected_by_its_reason(reason):
    made = make(Stem(), Answers(stem_translate=[REJECTED[reason]]))
    assert (made.reason, made.text) == (reason, None)
    assert reason in Stem.reasons
    answer = REJECTED[reason]
    assert made.rejected_text == (answer.text if isinstance(answer, Completion) else answer)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [("1 + 1 = 2", ("problem", "explanation")), (ENGLISH, ("explanation",)), ("Heat moves.", ("problem",))],
)
def test_a_seed_of_a_kind_that_is_not_wanted_asks_nothing(text, kinds):
    ask = Answers()
    made = make(Stem(kinds=kinds), ask, seed=Seed("s", text, "eng_Latn", "maths"))
    assert made.reason == "no_problem_found"
    assert not ask.asked


LONG = Seed(
    "s2", "\n\n".join(f"Water boils at 100 °C at sea level. This is part {n}." for n in range(12, 24)), "eng_Latn", "m"
)


def parts_in(request):
    """The numbers of LONG's paragraphs that a request asks to translate."""
    text = request.messages[-1][1]
    return [n for n in range(12, 24) if f"part {n}." in text]


class Chunks:
    """An Ask that translates the paragraphs it is given, those with number `bad` without their placeholders."""

    def __init__(self, bad=None, missing=None):
        self.bad, self.missing, self.asked = bad, missing, 0

    async def __call__(self, request):
        self.asked += 1
        numbers = parts_in(request)
        if self.missing in numbers:
            return Completion("", ERROR, error="not_recorded")
        marks = [0 if self.bad in numbers else place for place in range(1, len(numbers) + 1)]
        said = [
            f"Wasser siedet auf Meereshöhe bei ⟦{m}⟧. Das ist Teil {n}." for m, n in zip(marks, numbers, strict=True)
        ]
        return Completion("<explanation>\n" + "\n\n".join(said) + "\n</explanation>", STOP)


# The paragraphs of LONG are all alike.
CHUNKED = Stem(chunk_tokens=100, limits=ProblemLimits(max_repetition=None))


def test_a_long_explanation_is_translated_in_chunks_and_joined():
    ask = Chunks()
    made = make(CHUNKED, ask, seed=LONG)
    assert made.reason is None
    assert ask.asked == 4
    assert made.text.split("\n\n") == [
        f"Wasser siedet auf Meereshöhe bei 100 °C. Das ist Teil {n}." for n in range(12, 24)
    ]
    assert made.labels == {"kind": "explanation"}


def test_one_bad_chunk_is_the_end_of_an_explanation():
    made = make(CHUNKED, Chunks(bad=19), seed=LONG)
    assert (made.reason, made.measured, made.labels["chunk_reason"]) == ("chunk_failed", 0.25, "placeholder_lost")
    assert "Teil 19" in made.rejected_text


def test_a_chunk_without_an_answer_says_so_itself():
    assert make(CHUNKED, Chunks(missing=15), seed=LONG).reason == "not_recorded"


@pytest.mark.parametrize(
    ("answers", "reason", "measured"),
    [
        (["1.207,50 $", "1207,5", "1207.50 Dollar"], None, None),
        (["1.207,50 $", "1207,5", "8"], None, None),
        (["8", "8,0", "1207,50"], "answer_changed", 0.3333),
        (["8", "9", "1207,50"], "inconsistent_answer", 0.3333),
        ([None, None, "1207,50"], "inconsistent_answer", 0.3333),
    ],
)
def test_a_translation_is_solved_again_and_most_answers_have_to_be_the_key(answers, reason, measured):
    said = ["Ich weiß es nicht." if a is None else f"Also 3 mal 2,50.\n<answer>{a}</answer>" for a in answers]
    ask = Answers(stem_translate=[framed(*TRANSLATIONS["deu_Latn"])], stem_solve=said)
    made = make(Stem(verify=3), ask)
    assert (made.reason, made.measured) == (reason, measured)
    assert made.prompts == ("stem_translate@1", "stem_solve@1")
    assert [request.sample for request in ask.asked["stem_solve"]] == [0, 1, 2]
    assert not any(SOLUTION in content for request in ask.asked["stem_solve"] for _, content in request.messages)


def test_a_solver_that_is_not_there_is_no_wrong_answer():
    ask = Answers(
        stem_translate=[framed(*TRANSLATIONS["deu_Latn"])],
        stem_solve=["<answer>1207,5</answer>", Completion("", ERROR, error="not_recorded")],
    )
    assert make(Stem(verify=3), ask).reason == "not_recorded"


def test_later_calls_are_those_of_an_accepted_problem():
    ask = Answers(stem_translate=[framed(*TRANSLATIONS["deu_Latn"])], stem_solve=["<answer>1207,5</answer>"])
    assert make(Stem(verify=2), ask).reason is None
    assert Stem(verify=2).later_calls() == {"stem_solve@1": len(ask.asked["stem_solve"])}
    assert Stem().later_calls() == {}


def test_an_attempt_is_in_every_request():
    ask = Answers(stem_translate=[framed(*TRANSLATIONS["deu_Latn"])], stem_solve=["<answer>1207,5</answer>"])
    make(Stem(verify=2), ask, attempt=3)
    assert {request.attempt for requests in ask.asked.values() for request in requests} == {3}


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "<problem>a</problem>",
        "<problem>a</problem><answer>2</answer><solution>b</solution>",
        "<problem>a</problem><solution>b</solution><answer></answer>",
        "<problem>a</problem><solution>b</solution><answer>2</answer><answer>3</answer>",
        "<problem>a<solution>b</solution><answer>2</answer>",
    ],
)
def test_what_is_not_framed_as_asked_is_not_guessed_at(answer):
    assert parse(answer, ("problem", "solution", "answer")) is None


def test_identity_knows_the_content_of_the_prompts_that_are_asked():
    assert Stem().identity()["config"]["prompt"] == ["stem_translate@1", DIGESTS["stem_translate@1"]]
    assert Stem().identity()["config"]["solve_prompt"] == []
    assert Stem(verify=1).identity()["config"]["solve_prompt"] == ["stem_solve@1", DIGESTS["stem_solve@1"]]


def test_a_prompt_of_another_purpose_is_refused():
    with pytest.raises(ValueError, match="no place for"):
        Stem(solve_prompt="stem_translate@1")


def test_only_english_is_translated():
    ask = Answers()
    made = make(Stem(), ask, seed=Seed("s", ENGLISH, "deu_Latn", "maths"))
    assert made.reason == "no_problem_found"
    assert not ask.asked
