"""Questions with answers about the paragraphs of `rewritings.py`, and translations of a short English set.

In each of twelve languages an open question and a multiple choice about the first paragraph; written for these tests.
"""

OPEN, OPEN_ANSWER, CHOICE, OPTIONS = range(4)

QUESTIONS = {
    "deu_Latn": (
        "Seit wann gibt es die Bäckerei in der Marktstraße 12?",
        "Die Bäckerei gibt es seit 1954.",
        "Wie viele Brote backt die Bäckerei in der Marktstraße heute jeden Tag?",
        ("2 Brote", "300 Brote", "12 Brote"),
    ),
    "rus_Cyrl": (
        "Сколько минут шла электричка на дачу?",
        "Электричка шла 95 минут вместо 60.",
        "Сколько вёдер яблок собрали на даче?",
        ("60 вёдер", "14 вёдер", "95 вёдер"),
    ),
    "arb_Arab": (
        "كم عمر السوق القديم في المدينة؟",
        "يقولون إن عمر السوق 400 سنة.",
        "كم عدد المحلات في السوق القديم في المدينة؟",
        ("400 محل", "120 محل", "10 محلات"),
    ),
    "hin_Deva": (
        "गाँव का मेला कितने दिन चला?",
        "मेला नदी के किनारे 5 दिन चला।",
        "इस साल गाँव के मेले में कितने लोग आए?",
        ("5 लोग", "1200 लोग", "10 लोग"),
    ),
    "zho_Hans": (
        "面馆的老板从哪一年开始做拉面？",
        "老板从1998年开始做拉面。",
        "这家面馆的汤是用什么熬的？",
        ("拉面", "牛骨", "和面"),
    ),
    "jpn_Jpan": (
        "近所の神社のお祭りは何年続いていますか。",
        "お祭りは350年も続いています。",
        "お祭りのお神輿の重さは何キロですか。",
        ("60キロ", "800キロ", "350キロ"),
    ),
    "kor_Hang": (
        "우리 집은 매년 몇 월에 배추 김장을 담그나요?",
        "우리 집은 매년 11월에 김장을 담그는데요.",
        "김장 배추를 절이는 데 얼마나 걸려요?",
        ("11시간", "10시간", "50시간"),
    ),
    "tha_Thai": (
        "ตลาดน้ำแถวบ้านเปิดมาตั้งแต่ปีอะไร",
        "ตลาดน้ำเปิดมาตั้งแต่ปี 2547",
        "ก๋วยเตี๋ยวเรือในตลาดน้ำราคาชามละเท่าไร",
        ("80 บาท", "20 บาท", "2547 บาท"),
    ),
    "tur_Latn": (
        "Dedenin köydeki zeytinliği kaç ağaç?",
        "Dedenin zeytinliği 250 ağaç.",
        "Zeytinlikteki ağaçların hepsi kaç günde toplandı?",
        ("250 günde", "9 günde", "5 günde"),
    ),
    "swh_Latn": (
        "Shamba la kahawa huko Kilimanjaro lina miti mingapi?",
        "Shamba la kahawa lina miti 700.",
        "Mvua ikinyesha vizuri shamba la kahawa huvuna magunia mangapi kwa mwaka?",
        ("magunia 700", "magunia 25", "magunia 10"),
    ),
    "ben_Beng": (
        "গ্রামের পুকুরে এবার কত কেজি মাছ উঠল?",
        "গ্রামের পুকুরে এবার 450 কেজি মাছ উঠল।",
        "গ্রামের পুকুরে জাল ফেলতে কত জন লোক লাগে?",
        ("450 জন লোক", "12 জন লোক", "10 জন লোক"),
    ),
    "ell_Grek": (
        "Πόσες ώρες έκανε το καράβι για το νησί;",
        "Το καράβι έκανε 7 ώρες αντί για 5.",
        "Πόσους κατοίκους έχει το χωριό στο νησί;",
        ("7 κατοίκους", "230 κατοίκους", "5 κατοίκους"),
    ),
}

ENGLISH = """\
Question: How long is the bridge over the river, which was opened in 1932?
A) 503 metres
B) 1149 metres
Answer: B) 1149 metres

Question: What does the formula $E = mc^2$ say?
Answer: It says that energy is mass times the square of the speed of light; see https://example.org/physics for more."""

TRANSLATIONS = {
    "deu_Latn": (
        "Wie lang ist die Brücke über den Fluss, die 1932 eröffnet wurde?",
        "Meter",
        "Was besagt die Formel {}?",
        "Sie besagt, dass Energie gleich Masse mal dem Quadrat der Lichtgeschwindigkeit ist; mehr dazu unter {}.",
    ),
    "rus_Cyrl": (
        "Какова длина моста через реку, открытого в 1932 году?",
        "метров",
        "О чём говорит формула {}?",
        "Она говорит, что энергия равна массе, умноженной на квадрат скорости света; подробнее см. {}.",
    ),
    "arb_Arab": (
        "ما طول الجسر فوق النهر الذي افتُتح عام 1932؟",
        "مترًا",
        "ماذا تقول الصيغة {}؟",
        "تقول إن الطاقة تساوي الكتلة مضروبة في مربع سرعة الضوء؛ للمزيد انظر {}.",
    ),
    "hin_Deva": (
        "नदी पर बना वह पुल कितना लंबा है जो 1932 में खोला गया था?",
        "मीटर",
        "सूत्र {} क्या कहता है?",
        "यह कहता है कि ऊर्जा द्रव्यमान और प्रकाश की गति के वर्ग के गुणनफल के बराबर होती है; अधिक जानकारी के लिए {} देखें।",
    ),
    "zho_Hans": (
        "那座于1932年通车的跨河大桥有多长？",
        "米",
        "公式{}说明了什么？",
        "它说明能量等于质量乘以光速的平方；更多内容请参见 {} 。",
    ),
    "jpn_Jpan": (
        "1932年に開通した、川に架かる橋の長さはどれくらいですか。",
        "メートル",
        "公式{}は何を表していますか。",
        "エネルギーは質量に光の速さの二乗を掛けたものに等しいことを表しています。詳しくは {} をご覧ください。",
    ),
    "kor_Hang": (
        "1932년에 개통된 강 위의 다리는 길이가 얼마입니까?",
        "미터",
        "공식 {}은 무엇을 뜻합니까?",
        "에너지는 질량에 빛의 속도의 제곱을 곱한 것과 같다는 뜻입니다. 자세한 내용은 {} 를 참고하세요.",
    ),
    "tha_Thai": (
        "สะพานข้ามแม่น้ำที่เปิดใช้ในปี 1932 ยาวเท่าใด",
        "เมตร",
        "สูตร {} บอกอะไร",
        "สูตรนี้บอกว่าพลังงานเท่ากับมวลคูณด้วยกำลังสองของความเร็วแสง ดูเพิ่มเติมได้ที่ {}",
    ),
    "tur_Latn": (
        "Nehrin üzerinde 1932 yılında açılan köprünün uzunluğu ne kadardır?",
        "metre",
        "{} formülü ne anlatır?",
        "Enerjinin kütle ile ışık hızının karesinin çarpımına eşit olduğunu söyler; daha fazlası için {} "
        "adresine bakın.",
    ),
    "swh_Latn": (
        "Daraja linalovuka mto, lililofunguliwa mwaka 1932, lina urefu gani?",
        "mita",
        "Kanuni ya {} inasema nini?",
        "Inasema kwamba nishati ni sawa na uzito mara mraba wa kasi ya mwanga; tazama {} kwa maelezo zaidi.",
    ),
}
"""Of `ENGLISH`: the first question, the unit, the second question, its answer."""
