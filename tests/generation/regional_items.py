"""Questions about a region with their documents, in the languages that tests of multiple choice share."""

# language: country, document, question, options with the right one first, explanation
ITEMS = {
    "deu_Latn": (
        "DE",
        "Im Berchtesgadener Land gehen am Nikolausabend die Buttnmandl um, die ganz in Stroh gehüllt sind.",
        "Worin sind die Buttnmandl gehüllt, die im Berchtesgadener Land am Nikolausabend umgehen?",
        ("in Stroh", "in Schaffelle", "in Tannenzweige", "in bunte Flicken"),
        "Die Buttnmandl tragen am Nikolausabend ein Gewand aus gedroschenem Stroh.",
    ),
    "fra_Latn": (
        "FR",
        "Dans le Nord, on partage à la Saint-Nicolas une brioche en forme de petit bonhomme appelée coquille.",
        "Comment appelle-t-on dans le nord de la France la brioche en forme de petit bonhomme de fin d'année ?",
        ("la coquille", "la fouace", "la pogne", "la galette"),
        "La coquille, brioche en forme de petit enfant, se partage dans le Nord pendant l'Avent.",
    ),
    "spa_Latn": (
        "MX",
        "En Michoacán las familias velan a sus muertos en la isla de Janitzio la noche del primero de noviembre.",
        "¿En qué isla de Michoacán velan las familias a sus muertos la noche del primero de noviembre?",
        ("Janitzio", "Mexcaltitán", "Cozumel", "Holbox"),
        "La velación de los muertos se celebra en la isla de Janitzio, en el lago de Pátzcuaro.",
    ),
    "rus_Cyrl": (
        "RU",
        "В Вологде на Масленицу пекут тетёрки, печенье из ржаного теста в виде спиралей.",
        "Из какого теста в Вологде пекут тетёрки, печенье в виде спиралей?",
        ("из ржаного", "из гречневого", "из кукурузного", "из рисового"),
        "Тетёрки на русском Севере пекли из ржаного теста, свёрнутого в спирали.",
    ),
    "arb_Arab": (
        "EG",
        "في مصر يأكل الناس الفسيخ والرنجة في عيد شم النسيم الذي يأتي في اليوم التالي لعيد الفصح القبطي.",
        "ما السمك المملح الذي يأكله المصريون تقليديًا في عيد شم النسيم؟",
        ("الفسيخ", "السردين المشوي", "البلطي المقلي", "التونة المعلبة"),
        "اعتاد المصريون أكل الفسيخ في شم النسيم، وهو سمك بوري مملح ومخمر.",
    ),
    "hin_Deva": (
        "IN",
        "छठ पर्व पर बिहार में व्रती डूबते सूर्य को अर्घ्य देते हैं और प्रसाद में ठेकुआ बनाते हैं।",
        "बिहार में छठ पर्व पर प्रसाद के रूप में कौन सा पकवान बनाया जाता है?",
        ("ठेकुआ", "घेवर", "मोदक", "गुझिया"),
        "छठ के प्रसाद में गेहूँ के आटे और गुड़ से बना ठेकुआ चढ़ाया जाता है।",
    ),
    "ben_Beng": (
        "BD",
        "পহেলা বৈশাখে ঢাকায় চারুকলা অনুষদ থেকে মঙ্গল শোভাযাত্রা বের হয় আর মানুষ পান্তা ভাত খায়।",
        "পহেলা বৈশাখে ঢাকার মঙ্গল শোভাযাত্রা কোথা থেকে বের হয়?",
        ("চারুকলা অনুষদ", "কার্জন হল", "লালবাগ কেল্লা", "আহসান মঞ্জিল"),
        "মঙ্গল শোভাযাত্রা প্রতি বছর চারুকলা অনুষদের শিক্ষার্থীরা আয়োজন করেন।",
    ),
    "zho_Hans": (
        "CN",
        "在潮汕地区，人们过年时要做红桃粿，用刻着寿字花纹的木模印出桃子的形状。",
        "潮汕地区过年时做的红桃粿是用什么工具印出形状的？",
        ("木模", "竹筒", "石臼", "铁锅"),
        "红桃粿要放进刻有花纹的木模里，印成桃子的样子。",
    ),
    "jpn_Jpan": (
        "JP",
        "秋田県の男鹿半島では、大みそかの夜になまはげが家々を訪れ、怠け者はいないかと声をあげる。",
        "男鹿半島でなまはげが家々を訪れるのはいつですか。",
        ("大みそかの夜", "節分の朝", "お盆の夕方", "ひな祭りの昼"),
        "なまはげは大みそかの夜に家を回り、怠け心を戒める来訪神です。",
    ),
    "kor_Hang": (
        "KR",
        "제주도에서는 음력 이월에 영등굿을 열어 바람의 신 영등할망을 맞이하고 풍어를 빈다.",
        "제주도의 영등굿에서 맞이하는 신은 무엇을 다스리는 신인가?",
        ("바람", "곡식", "산불", "우물"),
        "영등할망은 바람의 신으로, 제주 사람들은 음력 이월에 굿을 열어 풍어를 빈다.",
    ),
    "tha_Thai": (
        "TH",
        "ที่จังหวัดเลย อำเภอด่านซ้าย ชาวบ้านแต่งหน้ากากจากหวดนึ่งข้าวเหนียวในงานประเพณีผีตาโขนทุกปี",
        "หน้ากากในประเพณีผีตาโขนที่อำเภอด่านซ้าย จังหวัดเลย ทำมาจากสิ่งใด",
        ("หวดนึ่งข้าวเหนียว", "กะลามะพร้าว", "กระดาษสา", "ใบตาลแห้ง"),
        "ชาวบ้านด่านซ้ายนำหวดนึ่งข้าวเหนียวมาเย็บและวาดลวดลายเป็นหน้ากากผีตาโขน",
    ),
    "swh_Latn": (
        "TZ",
        "Wakazi wa Zanzibar husherehekea Mwaka Kogwa katika kijiji cha Makunduchi kwa kupigana kwa migomba.",
        "Katika sherehe ya Mwaka Kogwa, wakazi wa Makunduchi hupigana kwa kutumia nini?",
        ("migomba", "mapanga", "makasia", "ngao za ngozi"),
        "Wakati wa Mwaka Kogwa watu wa Makunduchi hupigana kwa migomba ili kuondoa hasira za mwaka uliopita.",
    ),
}
