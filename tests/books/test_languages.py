"""The language of a text, told offline. The passages are from books in the public domain."""

import os
import subprocess
import sys

import pytest

from pipeline.books import languages
from pipeline.books.document import clean_document
from pipeline.books.languages import detect_language
from tests.conftest import SHARED_BOOKS

PASSAGES = {
    # Austen, Pride and Prejudice
    "en": """It is a truth universally acknowledged, that a single man in possession of a good
fortune, must be in want of a wife. However little known the feelings or views of such a man may be
on his first entering a neighbourhood, this truth is so well fixed in the minds of the surrounding
families, that he is considered as the rightful property of some one or other of their daughters.
"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is let at
last?" Mr. Bennet replied that he had not. "But it is," returned she; "for Mrs. Long has just been
here, and she told me all about it." Mr. Bennet made no answer.""",
    # Kafka, Die Verwandlung
    "de": """Als Gregor Samsa eines Morgens aus unruhigen Träumen erwachte, fand er sich in seinem
Bett zu einem ungeheuren Ungeziefer verwandelt. Er lag auf seinem panzerartig harten Rücken und sah,
wenn er den Kopf ein wenig hob, seinen gewölbten, braunen, von bogenförmigen Versteifungen geteilten
Bauch, auf dessen Höhe sich die Bettdecke, zum gänzlichen Niedergleiten bereit, kaum noch erhalten
konnte. Seine vielen, im Vergleich zu seinem sonstigen Umfang kläglich dünnen Beine flimmerten ihm
hilflos vor den Augen. »Was ist mit mir geschehen?« dachte er. Es war kein Traum.""",
    # Flaubert, Madame Bovary
    "fr": """Nous étions à l'étude, quand le Proviseur entra, suivi d'un nouveau habillé en
bourgeois et d'un garçon de classe qui portait un grand pupitre. Ceux qui dormaient se
réveillèrent, et chacun se leva comme surpris dans son travail. Le Proviseur nous fit signe de nous
rasseoir; puis, se tournant vers le maître d'études: Monsieur Roger, lui dit-il à demi-voix, voici
un élève que je vous recommande, il entre en cinquième. Si son travail et sa conduite sont
méritoires, il passera dans les grands, où l'appelle son âge.""",
    # Cervantes, Don Quijote
    "es": """En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que
vivía un hidalgo de los de lanza en astillero, adarga antigua, rocín flaco y galgo corredor. Una
olla de algo más vaca que carnero, salpicón las más noches, duelos y quebrantos los sábados,
lentejas los viernes, algún palomino de añadidura los domingos, consumían las tres partes de su
hacienda. Frisaba la edad de nuestro hidalgo con los cincuenta años; era de complexión recia, seco
de carnes, enjuto de rostro, gran madrugador y amigo de la caza.""",
    # Manzoni, I promessi sposi
    "it": """Quel ramo del lago di Como, che volge a mezzogiorno, tra due catene non interrotte di
monti, tutto a seni e a golfi, a seconda dello sporgere e del rientrare di quelli, vien, quasi a un
tratto, a ristringersi, e a prender corso e figura di fiume, tra un promontorio a destra, e un'ampia
costiera dall'altra parte; e il ponte, che ivi congiunge le due rive, par che renda ancor più
sensibile all'occhio questa trasformazione, e segni il punto in cui il lago cessa, e l'Adda
rincomincia, per ripigliar poi nome di lago dove le rive lascian l'acqua distendersi.""",
    # Machado de Assis, Dom Casmurro
    "pt": """Uma noite destas, vindo da cidade para o Engenho Novo, encontrei no trem da Central um
rapaz aqui do bairro, que eu conheço de vista e de chapéu. Cumprimentou-me, sentou-se ao pé de mim,
falou da lua e dos ministros, e acabou recitando-me versos. A viagem era curta, e os versos pode ser
que não fossem inteiramente maus. Sucedeu, porém, que, como eu estava cansado, fechei os olhos três
ou quatro vezes; tanto bastou para que ele interrompesse a leitura e metesse os versos no bolso.""",
    # Multatuli, Max Havelaar
    "nl": """Ik ben makelaar in koffie, en woon op de Lauriergracht, nummer zeven en dertig. Het is
mijn gewoonte niet, romans te schrijven, of zulke dingen, en het heeft dan ook lang geduurd voor ik
er toe overging een paar riem papier extra te bestellen, en het werk aan te vangen, dat gij, lieve
lezer, zoëven in de hand hebt genomen, en dat ge lezen moet als ge makelaar in koffie zijt, of als
ge wat anders zijt. Niet alleen dat ik nooit iets schreef wat naar een roman geleek.""",
    # Kalevala
    "fi": """Mieleni minun tekevi, aivoni ajattelevi
lähteäni laulamahan, saa'ani sanelemahan,
sukuvirttä suoltamahan, lajivirttä laulamahan.
Sanat suussani sulavat, puhe'et putoelevat,
kielelleni kerkiävät, hampahilleni hajoovat.
Veli kulta, veikkoseni, kaunis kasvinkumppalini!
Lähe nyt kanssa laulamahan, saa kera sanelemahan
yhtehen yhyttyämme, kahta'alta käytyämme!
Harvoin yhtehen yhymme, saamme toinen toisihimme
näillä raukoilla rajoilla, poloisilla Pohjan mailla.""",
    # Lagerlöf, Nils Holgersson
    "sv": """Det var en gång en pojke. Han var så där en fjorton år gammal, lång och ranglig och
linhårig. Inte stort dugde han till: han hade mest av allt lust att sova och äta, och därnäst tyckte
han om att ställa till odygd. Nu var det en söndagsmorgon, och pojkens föräldrar höllo på att göra
sig i ordning att gå i kyrkan. Pojken själv satt i skjortärmarna på bordskanten och tänkte på hur
lyckligt det var, att både far och mor gingo sin väg.""",
    # Mickiewicz, Pan Tadeusz
    "pl": """Litwo! Ojczyzno moja! ty jesteś jak zdrowie;
Ile cię trzeba cenić, ten tylko się dowie,
Kto cię stracił. Dziś piękność twą w całej ozdobie
Widzę i opisuję, bo tęsknię po tobie.
Panno święta, co Jasnej bronisz Częstochowy
I w Ostrej świecisz Bramie! Ty, co gród zamkowy
Nowogródzki ochraniasz z jego wiernym ludem!
Jak mnie dziecko do zdrowia powróciłaś cudem,
Gdy od płaczącej matki pod Twoją opiekę
Ofiarowany, martwą podniosłem powiekę""",
    # Němcová, Babička
    "cs": """Dávno, dávno již tomu, co jsem posledně se dívala do té milé, mírné tváře, co jsem
zulíbala to bledé, vrásků plné líce, nahlížela do modrého oka, v němž se jevilo tolik dobroty a
lásky; dávno tomu, co mne posledně její staré ruce žehnaly! Není již dobré stařenky! Dávno již
odpočívá v chladné zemi! Mně ale neumřela! Obraz její otisknut v duši mé s veškerou barvitostí
svou, a dokud ona zdráva, dotud žít bude v ní!""",
    # Petőfi, János vitéz
    "hu": """Tüzesen süt le a nyári nap sugára
Az ég tetejéről a juhászbojtárra.
Fölösleges dolog sütnie oly nagyon,
A juhásznak úgyis nagy melege vagyon.
Szerelem tüze ég fiatal szivében,
Ugy legelteti a nyájat a faluvégen.
Faluvégen nyája mig szerte legelész,
Ő addig subáján a fűben heverész.
Tenger virág nyílik tarkán körülötte,
De ő a virágra szemét nem vetette""",
    # Tolstoy, Anna Karenina
    "ru": """Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива
по-своему. Всё смешалось в доме Облонских. Жена узнала, что муж был в связи с бывшею в их доме
француженкою-гувернанткой, и объявила мужу, что не может жить с ним в одном доме. Положение это
продолжалось уже третий день и мучительно чувствовалось и самими супругами, и всеми членами семьи,
и домочадцами. Все члены семьи и домочадцы чувствовали, что нет смысла в их сожительстве.""",
    # Caesar, De bello Gallico
    "la": """Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani,
tertiam qui ipsorum lingua Celtae, nostra Galli appellantur. Hi omnes lingua, institutis, legibus
inter se differunt. Gallos ab Aquitanis Garumna flumen, a Belgis Matrona et Sequana dividit. Horum
omnium fortissimi sunt Belgae, propterea quod a cultu atque humanitate provinciae longissime absunt,
minimeque ad eos mercatores saepe commeant.""",
    # The Gospel of John
    "el": """Ἐν ἀρχῇ ἦν ὁ λόγος, καὶ ὁ λόγος ἦν πρὸς τὸν θεόν, καὶ θεὸς ἦν ὁ λόγος. οὗτος ἦν ἐν
ἀρχῇ πρὸς τὸν θεόν. πάντα δι’ αὐτοῦ ἐγένετο, καὶ χωρὶς αὐτοῦ ἐγένετο οὐδὲ ἕν ὃ γέγονεν. ἐν αὐτῷ ζωὴ
ἦν, καὶ ἡ ζωὴ ἦν τὸ φῶς τῶν ἀνθρώπων· καὶ τὸ φῶς ἐν τῇ σκοτίᾳ φαίνει, καὶ ἡ σκοτία αὐτὸ οὐ
κατέλαβεν. ἐγένετο ἄνθρωπος ἀπεσταλμένος παρὰ θεοῦ, ὄνομα αὐτῷ Ἰωάννης""",
    # Genesis
    "he": """בראשית ברא אלהים את השמים ואת הארץ והארץ היתה תהו ובהו וחשך על פני תהום ורוח אלהים
מרחפת על פני המים ויאמר אלהים יהי אור ויהי אור וירא אלהים את האור כי טוב ויבדל אלהים בין האור ובין
החשך ויקרא אלהים לאור יום ולחשך קרא לילה ויהי ערב ויהי בקר יום אחד""",
    # Luo Guanzhong, Romance of the Three Kingdoms
    "zh": """話說天下大勢，分久必合，合久必分。周末七國分爭，并入於秦。及秦滅之後，
楚、漢分爭，又并入於漢。漢朝自高祖斬白蛇而起義，一統天下，後來光武中興，傳至獻帝，遂分為三國。推其致亂之由，殆始於桓、靈二帝。
桓帝禁錮善類，崇信宦官。及桓帝崩，靈帝即位，大將軍竇武、太傅陳蕃，共相輔佐。時有宦官曹節等弄權，竇武、陳蕃謀誅之，
作事不密，反為所害，中涓自此愈橫。""",
    # Natsume Sōseki, I Am a Cat
    "ja": """吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。
何でも薄暗いじめじめした所でニャーニャー泣いていた事だけは記憶している。吾輩はここで始めて人間というものを見た。しかもあとで聞くとそれは書生という
人間中で一番獰悪な種族であったそうだ。この書生というのは時々我々を捕えて煮て食うという話である。しかしその当時は何という
考もなかったから別段恐しいとも思わなかった。""",
}

JUNK = {
    "numbers": "\n".join(f"{i}  {i * 37 % 1009}.{i % 97:02}  {i * i % 8887}" for i in range(900)),
    "punctuation": "* * *\n--- ... !!!\n" * 300,
    "nothing": "",
    "spaces": " \n\n ",
    "one word": "Amen.",
}


@pytest.mark.parametrize("language", PASSAGES)
def test_a_passage_of_a_book_has_its_language(language: str) -> None:
    assert detect_language(PASSAGES[language]) == language


@pytest.mark.parametrize("language", ["en", "de", "ru", "zh"])
def test_so_has_a_whole_book_and_one_in_capitals(language: str) -> None:
    assert detect_language("\n\n".join([PASSAGES[language]] * 40)) == language
    assert detect_language(PASSAGES[language].upper()) == language


@pytest.mark.parametrize("kind", JUNK)
def test_what_is_no_language_has_none(kind: str) -> None:
    assert detect_language(JUNK[kind]) is None


def test_a_text_of_two_halves_in_two_languages_has_that_of_the_larger_one() -> None:
    english, french = PASSAGES["en"] * 30, PASSAGES["fr"] * 30
    assert detect_language(english + french * 3) == "fr"
    assert detect_language(english * 3 + french) == "en"


def test_a_text_in_many_languages_has_none() -> None:
    mixed = "".join(PASSAGES[name] * 10 for name in ("en", "fr", "ru", "fi", "it"))
    assert detect_language(mixed) is None


def test_a_preface_and_notes_in_another_language_do_not_decide() -> None:
    body = PASSAGES["de"] * 40
    assert detect_language(PASSAGES["en"] * 4 + body + PASSAGES["en"] * 4) == "de"


def test_only_samples_of_a_long_text_are_looked_at() -> None:
    class Text(str):
        read = 0

        def __getitem__(self, index: object) -> str:
            piece = super().__getitem__(index)  # type: ignore[index]
            Text.read += len(piece)
            return piece

    assert detect_language(Text(PASSAGES["en"] * 500)) == "en"
    assert Text.read <= 5000


@pytest.mark.parametrize(
    ("name", "language"),
    [("14082.txt", "fr"), ("2229.txt", "de"), ("2229-old_7fau110.txt", "de"),
     ("50114-modern.txt", "fi"), ("16328.txt", "en"), ("1524.txt", "en"), ("1322.txt", "en"),
     ("1342-old_pandp09.txt", None)],
)  # fmt: skip
def test_a_real_book_has_its_language(name: str, language: str | None) -> None:
    if not SHARED_BOOKS.is_dir():
        pytest.skip("shared/books is not beside the repository")
    raw = (SHARED_BOOKS / name).read_bytes()
    text = clean_document(raw).text if language else raw.decode("latin-1")
    assert detect_language(text) == language


def test_the_model_is_loaded_only_when_a_language_is_asked_for() -> None:
    code = "import sys, pipeline.books.languages as l; sys.exit('py3langid' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ended.returncode == 0


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_is_plainly_english_or_german_is_told_without_the_model(
    language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(languages, "_detector", None)
    assert detect_language(PASSAGES[language]) == language


@pytest.mark.parametrize("language", PASSAGES)
def test_small_words_never_tell_another_language_than_the_model(language: str) -> None:
    lines = PASSAGES[language].split("\n")
    parts = ["\n".join(lines[first:]) for first in range(len(lines))]
    assert {languages._by_small_words(part) for part in parts} <= {language, None}
