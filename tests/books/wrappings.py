"""What Project Gutenberg put round its texts, from 1991 to today: headers and footers as they
were, shortened only where they say the same for pages. Any header may stand above any text and
any footer below it, as editions were made anew."""

_NEWSLETTER = """\
Information about Project Gutenberg (one page)

We produce about two million dollars for each hour we work.  The
fifty hours is one conservative estimate for how long it we take
to get any etext selected, entered, proofread, edited, copyright
searched and analyzed, the copyright letters written, etc.  This
projected audience is one hundred million readers.  If our value
per text is nominally estimated at one dollar, then we produce 2
million dollars per hour this year as we release some eight text
files per month:  thus upping our productivity from $2 million.

The Goal of Project Gutenberg is to Give Away One Trillion Etext
Files by the December 31, 2001.  [10,000 x 100,000,000=Trillion]
This is ten thousand titles each to one hundred million readers,
which is 10% of the expected number of computer users by the end
of the year 2001.

We need your donations more than ever!

All donations should be made to "Project Gutenberg/IBC", and are
tax deductible to the extent allowable by law ("IBC" is Illinois
Benedictine College).  (Subscriptions to our paper newsletter go
to IBC, too)

For these and other matters, please mail to:

Project Gutenberg
P. O. Box  2782
Champaign, IL 61825

When all other email fails try our Michael S. Hart, Executive
Director:
hart@vmd.cso.uiuc.edu (internet)   hart@uiucvmd   (bitnet)

We would prefer to send you this information by email
(Internet, Bitnet, Compuserve, ATTMAIL or MCImail).

******
If you have an FTP program (or emulator), please
FTP directly to the Project Gutenberg archives:
[Mac users, do NOT point and click. . .type]

ftp mrcnext.cso.uiuc.edu
login:  anonymous
password:  your@login
cd etext/etext91
or cd etext92
or cd etext93 [for new books]  [now also in cd etext/etext93]
or cd etext/articles [get suggest gut for more information]
dir [to see files]
get or mget [to get files. . .set bin for zip files]
GET 0INDEX.GUT
for a list of books
and
GET NEW GUT for general information
and
MGET GUT* for newsletters.

**Information prepared by the Project Gutenberg legal advisor**
(Three Pages)


"""
_SMALL_PRINT = """\
***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
Why is this "Small Print!" statement here?  You know: lawyers.
They tell us you might sue us if there is something wrong with
your copy of this etext, even if you got it for free from
someone other than us, and even if what's wrong is not our
fault.  So, among other things, this "Small Print!" statement
disclaims most of our liability to you.  It also tells you how
you can distribute copies of this etext if you want to.

*BEFORE!* YOU USE OR READ THIS ETEXT
By using or reading any part of this PROJECT GUTENBERG-tm
etext, you indicate that you understand, agree to and accept
this "Small Print!" statement.  If you do not, you can receive
a refund of the money (if any) you paid for this etext by
sending a request within 30 days of receiving it to the person
you got it from.  If you received this etext on a physical
medium (such as a disk), you must return it with your request.

LIMITED WARRANTY; DISCLAIMER OF DAMAGES
But for the "Right of Replacement or Refund" described below,
[1] the Project (and any other party you may receive this
etext from as a PROJECT GUTENBERG-tm etext) disclaims all
liability to you for damages, costs and expenses, including
legal fees, and [2] YOU HAVE NO REMEDIES FOR NEGLIGENCE OR
UNDER STRICT LIABILITY, OR FOR BREACH OF WARRANTY OR CONTRACT,
INCLUDING BUT NOT LIMITED TO INDIRECT, CONSEQUENTIAL, PUNITIVE
OR INCIDENTAL DAMAGES, EVEN IF YOU GIVE NOTICE OF THE
POSSIBILITY OF SUCH DAMAGES.

WHAT IF YOU *WANT* TO SEND MONEY EVEN IF YOU DON'T HAVE TO?
The Project gratefully accepts contributions in money, time,
scanning machines, OCR software, public domain etexts, royalty
free copyright licenses, and every other sort of contribution
you can think of.  Money should be paid to "Project Gutenberg
Association / Illinois Benedictine College".

"""
_END_1993 = "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n"
_WELCOME = """\
**Welcome To The World of Free Plain Vanilla Electronic Texts**

**Etexts Readable By Both Humans and By Computers, Since 1971**

*These Etexts Prepared By Hundreds of Volunteers and Donations*

Information on contacting Project Gutenberg to get Etexts, and
further information is included below.  We need your donations.

"""
_COPYRIGHT_LAWS = """\
Copyright laws are changing all over the world, be sure to check
the copyright laws for your country before posting these files!!

Please take a look at the important information in this header.
We encourage you to keep this file on your own disk, keeping an
electronic path open for the next readers.  Do not remove this.

"""
_DONATIONS_2001 = """\
Information about Project Gutenberg (one page)

We produce about two million dollars for each hour we work.  The
time it takes us, a rather conservative estimate, is fifty hours
to get any etext selected, entered, proofread, edited, copyright
searched and analyzed, the copyright letters written, etc.

The Project Gutenberg Literary Archive Foundation has been created
to secure a future for Project Gutenberg into the next millennium.

We need your donations more than ever!

As of November, 2001, contributions are being solicited from people
and organizations in: Alabama, Alaska, Arkansas, Connecticut, Delaware,
District of Columbia, Florida, Georgia, Hawaii, Illinois, Indiana, Iowa,
Kansas, Kentucky, Louisiana, Maine, and Wyoming.

We have filed in all 50 states now, but these are the only ones
that have responded.

As the requirements for other states are met, additions to this list
will be made and fund raising will begin in the additional states.
Please feel free to ask to check the status of your state.

In answer to various questions we have received on this:

We are constantly working on finishing the paperwork to legally
request donations in all 50 states.  If your state is not listed and
you would like to know if we have added it since the list you have,
just ask.

While we cannot solicit donations from people in states where we are
not yet registered, we know of no prohibition against accepting
donations from donors in these states who approach us with an offer to
donate.

International donations are accepted, but we don't know ANYTHING about
how to make them tax-deductible, or even if they CAN be made
deductible, and don't have the staff to handle it even if there are
ways.

Donations by check or money order may be sent to:

Project Gutenberg Literary Archive Foundation
PMB 113
1739 University Ave.
Oxford, MS 38655-4109

Contact us if you want to arrange for a wire transfer or payment
method other than by check or money order.

The Project Gutenberg Literary Archive Foundation has been approved by
the US Internal Revenue Service as a 501(c)(3) organization with EIN
[Employee Identification Number] 64-622154.  Donations are
tax-deductible to the maximum extent permitted by law.  As fund-raising
requirements for other states are met, additions to this list will be
made and fund-raising will begin in the additional states.

We need your donations more than ever!

You can get up to date donation information online at:

http://www.gutenberg.net/donation.html


***

If you can't reach Project Gutenberg,
you can always email directly to:

Michael S. Hart <hart@pobox.com>

Prof. Hart will answer or forward your message.

We would prefer to send you information by email.


**The Legal Small Print**


(Three Pages)

"""
_FINE_PRINT_2002 = (
    _SMALL_PRINT.replace("ETEXTS", "EBOOKS").replace("etext", "eBook")
    + "[Portions of this eBook's header and trailer may be reprinted only\n"
    "when distributed free of all fees.  Copyright (C) 2001, 2002 by\n"
    "Michael S. Hart.  Project Gutenberg is a TradeMark and may not be\n"
    "used in any sales of Project Gutenberg eBooks or other materials be\n"
    "they hardware or software or any other related product without\n"
    "express permission.]\n\n"
    "*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*\n"
)
_FIELDS = """\
Title: {title}

Author: {author}

Release Date: May 5, 2005 [EBook #99999]

Language: {language}

Character set encoding: ISO-8859-1

"""
_FREE_2005 = """\
This eBook is for the use of anyone anywhere at no cost and with
almost no restrictions whatsoever.  You may copy it, give it away or
re-use it under the terms of the Project Gutenberg License included
with this eBook or online at www.gutenberg.org


"""
_FREE_2021 = """\
This ebook is for the use of anyone anywhere in the United States and
most other parts of the world at no cost and with almost no restrictions
whatsoever. You may copy it, give it away or re-use it under the terms
of the Project Gutenberg License included with this ebook or online
at www.gutenberg.org. If you are not located in the United States,
you will have to check the laws of the country where you are located
before using this eBook.

"""
_CREDITS = "Produced by A. Volunteer and the Online Distributed\nProofreading Team at http://www.pgdp.net\n"

HEADERS = {
    "1991, an edition that is labeled": (
        "**This is the Project Gutenberg Etext of {title}**\n"
        "*This 30th edition should be labeled lamp30.txt or lamp30.zip.\n"
        "***This Edition Is Being Officially Released On March 8, 1994***\n"
        "**In Celebration Of The 23rd Anniversary of Project Gutenberg***\n\n"
        + _NEWSLETTER + _SMALL_PRINT + _END_1993
    ),
    "1992, small print without an end of its own": (
        "The Project Gutenberg Etext of {title}, by {author}\n"
        "#2 in our series by {author}\n\n" + _NEWSLETTER + _SMALL_PRINT
        + "This \"Small Print!\" by Charles B. Kramer, Attorney\n"
        "Internet (72600.2026@compuserve.com); TEL: (212-254-5093)\n"
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.03.17.93*END*\n"
    ),
    "1995": (
        "***The Project Gutenberg Etext of {title}, by {author}***\n\n" + _COPYRIGHT_LAWS + _WELCOME
        + "{title}\n\nby {author}\n\nJuly, 1995  [Etext #299]\n\n\n"
        "*****The Project Gutenberg Etext of {title}, by {author}*****\n"
        "*****This file should be named lamp10.txt or lamp10.zip******\n\n"
        "Corrected EDITIONS of our etexts get a new NUMBER, lamp11.txt.\n"
        "VERSIONS based on separate sources get new LETTER, lamp10a.txt.\n\n"
        "We are now trying to release all our books one month in advance\n"
        "of the official release dates, for time for better editing.\n\n"
        "Please note:  neither this list nor its contents are final till\n"
        "midnight of the last day of the month of any such announcement.\n\n"
        + _NEWSLETTER + _SMALL_PRINT + _END_1993
    ),
    "1995, prepared by": (
        "Project Gutenberg Etext of {title} by {author}\n\n" + _COPYRIGHT_LAWS + _WELCOME
        + "{title} by {author}\n\nJanuary, 1998  [Etext #1164]\n\n"
        + _NEWSLETTER + _SMALL_PRINT + _END_1993
        + "\n\n\n\nThis etext was prepared by A. Volunteer, Coventry, from the\n"
        "1904 Methuen edition; proofed by B. Volunteer.\n"
    ),
    "1997, prepared by, in capitals": (
        "The Project Gutenberg Etext of {title} by {author}\n\n" + _COPYRIGHT_LAWS + _WELCOME
        + "Title: {title}\nAuthor: {author}\n\nAugust, 1997  [Etext #1012]\n\n"
        + _NEWSLETTER + _SMALL_PRINT + _END_1993
        + "\n\n\n\n\nThis Etext was created by A. Volunteer (volunteer@example.com),\n"
        "using an OCR scanner.  Etext version 1.0.\n"
    ),
    "2000, donations to the foundation": (
        "The Project Gutenberg Etext of {title}, by {author}\n\n" + _COPYRIGHT_LAWS + _WELCOME
        + "Title: {title}\n\nAuthor: {author}\n\nRelease Date: July, 2001  [Etext #2706]\n"
        "[Yes, we are about one year ahead of schedule]\n\nEdition: 10\n\n"
        "The Project Gutenberg Etext of {title}, by {author}\n"
        "******This file should be named lamp10.txt or lamp10.zip******\n\n"
        "Corrected EDITIONS of our etexts get a new NUMBER, lamp11.txt\n"
        "VERSIONS based on separate sources get new LETTER, lamp10a.txt\n\n"
        + _DONATIONS_2001 + _SMALL_PRINT + _END_1993
    ),
    "2002, small print at the end": (
        "The Project Gutenberg Etext of {title}, by {author}\n\n"
        "Copyright laws are changing all over the world. Be sure to check the\n"
        "copyright laws for your country before downloading or redistributing\n"
        "this or any other Project Gutenberg file.\n\n"
        "Please do not remove this header information.\n\n"
        "This header should be the first thing seen when anyone starts to\n"
        "view the eBook. Do not change or edit it without written permission.\n"
        "The words are carefully chosen to provide users with the\n"
        "information needed to understand what they may and may not do with\n"
        "the eBook. To encourage this, we have moved most of the information\n"
        "to the end, rather than having it all here at the beginning.\n\n"
        "**Welcome To The World of Free Plain Vanilla Electronic Texts**\n\n"
        "**eBooks Readable By Both Humans and By Computers, Since 1971**\n\n"
        "*****These eBooks Were Prepared By Thousands of Volunteers!*****\n\n"
        "Information on contacting Project Gutenberg to get eBooks, and\n"
        "further information, is included below. We need your donations.\n\n"
        "The Project Gutenberg Literary Archive Foundation is a 501(c)(3)\n"
        "organization with EIN [Employee Identification Number] 64-6221541\n"
        "Find out about how to make a donation at the bottom of this file.\n\n\n\n"
        "Title: {title}\n\nAuthor: {author}\n\nRelease Date: January, 2003  [eBook #3682]\n"
        "[Yes, we are about one year ahead of schedule]\n"
        "[The actual date this file first posted = 07/12/01]\n\nEdition: 10\n\n"
        "Language: {language}\n\n"
        "The Project Gutenberg Etext of {title}, by {author}\n"
        "*****This file should be named lamp10.txt or lamp10.zip*****\n\n"
    ),
    "2003, with a START marker": (
        "The Project Gutenberg EBook of {title}, by {author}\n"
        "(#2 in our series by {author})\n\n"
        "Copyright laws are changing all over the world. Be sure to check the\n"
        "copyright laws for your country before downloading or redistributing\n"
        "this or any other Project Gutenberg eBook.\n\n"
        "This header should be the first thing seen when viewing this Project\n"
        "Gutenberg file.  Please do not remove it.  Do not change or edit the\n"
        "header without written permission.\n\n"
        "Please read the \"legal small print,\" and other information about the\n"
        "eBook and Project Gutenberg at the bottom of this file.  Included is\n"
        "important information about your specific rights and restrictions in\n"
        "how the file may be used.  You can also find out about how to make a\n"
        "donation to Project Gutenberg, and how to get involved.\n\n\n"
        "**Welcome To The World of Free Plain Vanilla Electronic Texts**\n\n"
        "**eBooks Readable By Both Humans and By Computers, Since 1971**\n\n"
        "*****These eBooks Were Prepared By Thousands of Volunteers!*****\n\n\n"
        "Title: {title}\n\nAuthor: {author}\n\nRelease Date: October, 2004  [EBook #6702]\n"
        "[Yes, we are more than one year ahead of schedule]\n"
        "[This file was first posted on January 16, 2003]\n\nEdition: 10\n\n"
        "Language: {language}\n\nCharacter set encoding: ISO Latin-1\n\n"
        "*** START OF THE PROJECT GUTENBERG EBOOK, {TITLE} ***\n\n\n\n\n" + _CREDITS
    ),
    "2005": (
        "The Project Gutenberg EBook of {title}, by {author}\n\n" + _FREE_2005 + _FIELDS
        + "*** START OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n\n\n\n" + _CREDITS
    ),
    "2005, credits above the marker": (
        "Project Gutenberg's {title}, by {author}\n\n" + _FREE_2005 + _FIELDS
        + "***START OF THE PROJECT GUTENBERG EBOOK {TITLE}***\n\n\nE-text prepared by "
        "A. Volunteer and the Project\nGutenberg Online Distributed Proofreading Team "
        "(http://www.pgdp.net)\n\n\n\n"
        "Note: Project Gutenberg also has an HTML version of this\n"
        "      file which includes the original illustrations.\n"
        "      See 99999-h.htm or 99999-h.zip:\n"
        "      (http://www.gutenberg.net/dirs/9/9/9/9/99999/99999-h/99999-h.htm)\n"
    ),
    "2007, in the public domain of one country": (
        "Project Gutenberg's {title}, by {author}\n\n" + _FREE_2005
        + "** This is a COPYRIGHTED Project Gutenberg eBook, Details Below **\n"
        "**     Please follow the copyright guidelines in this file.     **\n\n" + _FIELDS
        + "*** START OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n\n"
        "Copyright (C) 2007 by A. Author.\n"
    ),
    "2022, indented": (
        "The Project Gutenberg eBook of {title}\n    \n" + _FREE_2021
        + "Title: {title}\n\nAuthor: {author}\n\n"
        "Release date: May 5, 2005 [eBook #99999]\n"
        "                Most recently updated: January 2, 2024\n\n"
        "Language: {language}\n\nOriginal publication: London: Someone, 1890\n\n"
        "Credits: A. Volunteer and the Online Distributed Proofreading Team\n\n\n"
        "            *** START OF THE PROJECT GUTENBERG EBOOK {TITLE} ***\n"
    ),
    "2024, a marker on two lines": (
        "\ufeffThe Project Gutenberg eBook of {title}, by {author}\n\n" + _FREE_2021
        + "Title: {title}\n\nAuthor: {author}\n\n"
        "Release Date: May 5, 2024 [eBook #99999]\n\nLanguage: {language}\n\n"
        "Produced by: A. Volunteer (This file was produced from images generously\n"
        "             made available by The Internet Archive)\n\n"
        "*** START OF THE PROJECT GUTENBERG EBOOK {TITLE},\nOR THE WINDOW THAT WAS LIT ***\n"
    ),
    "a header of 1996 inside one of 2008": (
        "The Project Gutenberg EBook of {title}, by {author}\n\n" + _FREE_2005 + _FIELDS
        + "*** START OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n\n\n"
        "*** START OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n\n\n"
        "The Project Gutenberg Etext of {title}\n\n" + _COPYRIGHT_LAWS + _WELCOME
        + _NEWSLETTER + _SMALL_PRINT + _END_1993
    ),
    "Australia": (
        "Title: {title}\nAuthor: {author}\n"
        "* A Project Gutenberg of Australia eBook *\neBook No.:  0200161.txt\nEdition:    1\n"
        "Language:   {language}\nCharacter set encoding:     ASCII--7 bit\n"
        "Date first posted: February 2002\nDate most recently updated: November 2010\n\n"
        "This eBook was produced by: A. Volunteer volunteer@example.com\n\n"
        "Production notes: Nil\n\n"
        "Project Gutenberg of Australia eBooks are created from printed editions\n"
        "which are in the public domain in Australia, unless a copyright notice\n"
        "is included. We do NOT keep any eBooks in compliance with a particular\n"
        "paper edition.\n\n"
        "Copyright laws are changing all over the world. Be sure to check the\n"
        "copyright laws for your country before downloading or redistributing this\n"
        "file.\n\n"
        "This eBook is made available at no cost and with almost no restrictions\n"
        "whatsoever. You may copy it, give it away or re-use it under the terms\n"
        "of the Project Gutenberg of Australia License which may be viewed online at\n"
        "http://gutenberg.net.au/licence.html\n\n"
        "To contact Project Gutenberg of Australia go to http://gutenberg.net.au\n\n"
        "--------------------------------------------------------------------------\n\n"
        "A Project Gutenberg of Australia eBook\n\nTitle:      {title}\nAuthor:     {author}\n\n"
    ),
    "Canada": (
        "* A Project Gutenberg Canada Ebook *\n\n"
        "This ebook is made available at no cost and with very few\n"
        "restrictions. These restrictions apply only if (1) you make\n"
        "a change in the ebook (other than alteration for different\n"
        "display devices), or (2) you are making commercial use of\n"
        "the ebook. If either of these conditions applies, please\n"
        "check gutenberg.ca/links/licence.html before proceeding.\n\n"
        "This work is in the Canadian public domain, but may be under\n"
        "copyright in some countries. If you live outside Canada, check your\n"
        "country's copyright laws. IF THE BOOK IS UNDER COPYRIGHT IN YOUR\n"
        "COUNTRY, DO NOT DOWNLOAD OR REDISTRIBUTE THIS FILE.\n\n"
        "Title: {title}\nAuthor: {author}\nDate of first publication: 1949\n"
        "Edition used as base for this ebook: London: Secker & Warburg, 1949\n"
        "Date first posted: 23 May 2012\nDate last updated: 23 May 2012\n"
        "Project Gutenberg Canada ebook #949\n\n"
        "This ebook was produced by A. Volunteer\n\n"
    ),
    "none": "",
}  # fmt: skip

_LICENCE_2005 = """\
Updated editions will replace the previous one--the old editions
will be renamed.

Creating the works from public domain print editions means that no
one owns a United States copyright in these works, so the Foundation
(and you!) can copy and distribute it in the United States without
permission and without paying copyright royalties.  Special rules,
set forth in the General Terms of Use part of this license, apply to
copying and distributing Project Gutenberg-tm electronic works to
protect the PROJECT GUTENBERG-tm concept and trademark.



*** START: FULL LICENSE ***

THE FULL PROJECT GUTENBERG LICENSE
PLEASE READ THIS BEFORE YOU DISTRIBUTE OR USE THIS WORK

To protect the Project Gutenberg-tm mission of promoting the free
distribution of electronic works, by using or distributing this work
(or any other work associated in any way with the phrase "Project
Gutenberg"), you agree to comply with all the terms of the Full Project
Gutenberg-tm License (available with this file or online at
http://gutenberg.org/license).


Section 1.  General Terms of Use and Redistributing Project Gutenberg-tm
electronic works

1.A.  By reading or using any part of this Project Gutenberg-tm
electronic work, you indicate that you have read, understand, agree to
and accept all the terms of this license and intellectual property
(trademark/copyright) agreement.

1.C.  The Project Gutenberg Literary Archive Foundation ("the Foundation"
or PGLAF), owns a compilation copyright in the collection of Project
Gutenberg-tm electronic works.

1.F.6.  INDEMNITY - You agree to indemnify and hold the Foundation, the
trademark owner, any agent or employee of the Foundation, anyone
providing copies of these works harmless from all liability, costs and
expenses, including legal fees, that arise directly or indirectly.

Section 5.  General Information About Project Gutenberg-tm electronic
works.

Professor Michael S. Hart is the originator of the Project Gutenberg-tm
concept of a library of electronic works that could be freely shared
with anyone.

Most people start at our Web site which has the main PG search facility:

     http://www.gutenberg.org

This Web site includes information about Project Gutenberg-tm,
including how to make donations to the Project Gutenberg Literary
Archive Foundation, how to help produce our new eBooks, and how to
subscribe to our email newsletter to hear about new eBooks.


*** END: FULL LICENSE ***
"""
_LICENCE_2022 = _LICENCE_2005.replace("Gutenberg-tm", "Gutenberg™").replace(
    "*** START: FULL LICENSE ***\n\n", ""
).replace("\n\n*** END: FULL LICENSE ***\n", "").replace(
    "public domain print editions", "print editions not protected by U.S. copyright law"
)  # fmt: skip
_NAMED_2005 = """\
***** This file should be named 99999-8.txt or 99999-8.zip *****
This and all associated files of various formats will be found in:
        http://www.gutenberg.org/9/9/9/9/99999/

Produced by A. Volunteer

"""
_NAMED_2003 = """\
This file should be named lamp10.txt or lamp10.zip
Corrected EDITIONS of our eBooks get a new NUMBER, lamp11.txt
VERSIONS based on separate sources get new LETTER, lamp10a.txt

Project Gutenberg eBooks are often created from several printed
editions, all of which are confirmed as Public Domain in the US
unless a copyright notice is included.  Thus, we usually do not
keep eBooks in compliance with any particular paper edition.

We are now trying to release all our eBooks one year in advance
of the official release dates, leaving time for better editing.
Please be encouraged to tell us about any error or corrections,
even years after the official publication date.

Please note neither this listing nor its contents are final til
midnight of the last day of the month of any such announcement.
The official release date of all Project Gutenberg eBooks is at
Midnight, Central Time, of the last day of the stated month.  A
preliminary version may often be posted for suggestion, comment
and editing by those who wish to do so.

Most people start at our Web sites at:
http://gutenberg.net or
http://promo.net/pg

These Web sites include award-winning information about Project
Gutenberg, including how to donate, how to help produce our new
eBooks, and how to subscribe to our email newsletter (free!).


Those of you who want to download any eBook before announcement
can get to them as follows, and just download by date.  This is
also a good way to get them instantly upon announcement, as the
indexes our cataloguers produce obviously take a while after an
announcement goes out in the Project Gutenberg Newsletter.

http://www.ibiblio.org/gutenberg/etext04 or
ftp://ftp.ibiblio.org/pub/docs/books/gutenberg/etext04

Or /etext03, 02, 01, 00, 99, 98, 97, 96, 95, 94, 93, 92, 92, 91 or 90

Just search by the first five letters of the filename you want,
as it appears in our Newsletters.


Information about Project Gutenberg (one page)

Here is the briefest record of our progress (* means estimated):

eBooks Year Month

    1  1971 July
   10  1991 January
  100  1994 January
 1000  1997 August
10000  2004 January*


"""

FOOTERS = {
    "1991": "End of The Project Gutenberg Etext of {title}\n",
    "1993, the end of the file": "The End of the Project Gutenberg etext of {title}\n\n\x1a",
    "1995": "End of the Project Gutenberg Etext of {title}, by {author}\n",
    "1996, with stars": "*** End of the Project Gutenberg Etext of {title} ***\n",
    "1998, possessive": "End of Project Gutenberg's Etext of {title} by {author}\n",
    "2000": "End of Project Gutenberg's {title}, by {author}\n",
    "2002": (
        "End of the Project Gutenberg Etext of {title}, by {author}\n\n"
        + _NAMED_2003.replace("eBook", "Etext") + _DONATIONS_2001 + _SMALL_PRINT
        + "[Portions of this header are copyright (C) 2001 by Michael S. Hart\n"
        "and may be reprinted only when these Etexts are free of all fees.]\n"
        "*END THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.10/04/01*END*\n"
    ),
    "2003": (
        "End of the Project Gutenberg EBook of {title}, by {author}\n\n"
        "*** END OF THE PROJECT GUTENBERG EBOOK, {TITLE} ***\n\n"
        + _NAMED_2003 + _DONATIONS_2001 + _FINE_PRINT_2002
    ),
    "2003, no asterisks": (
        "End of Project Gutenberg's {title}, by {author}\n\n" + _NAMED_2003 + _DONATIONS_2001
        + _FINE_PRINT_2002
    ),
    "2005": (
        "End of the Project Gutenberg EBook of {title}, by {author}\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n" + _NAMED_2005 + _LICENCE_2005
    ),
    "2005, short": (
        "***END OF THE PROJECT GUTENBERG EBOOK {TITLE}***\n\n\n"
        "******* This file should be named 99999.txt or 99999.zip *******\n\n\n"
        "This and all associated files of various formats will be found in:\n"
        "http://www.gutenberg.org/dirs/9/9/9/9/99999\n\n\n" + _LICENCE_2005
    ),
    "2007, copyrighted": (
        "End of the Project Gutenberg EBook of {title}, by {author}\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n"
        "** This is a COPYRIGHTED Project Gutenberg eBook, Details Above **\n"
        "**     Please follow the copyright guidelines in this file.     **\n\n"
        + _NAMED_2005 + _LICENCE_2005
    ),
    "2022, indented": (
        "            *** END OF THE PROJECT GUTENBERG EBOOK {TITLE} ***\n    \n\n" + _LICENCE_2022
    ),
    "2024, on two lines": (
        "*** END OF THE PROJECT GUTENBERG EBOOK {TITLE},\nOR THE WINDOW THAT WAS LIT ***\n\n"
        + _LICENCE_2022
    ),
    "no END marker, but the licence": _LICENCE_2005,
    "no END marker, but the name of the file": _NAMED_2005 + _LICENCE_2005,
    "French": (
        "Fin du Project Gutenberg EBook de {title}, par {author}\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n" + _NAMED_2005 + _LICENCE_2005
    ),
    "German": (
        "Ende dieses Projekt Gutenberg Etextes {title}, von {author}\n\n"
        "End of Project Gutenberg's {title}, by {author}\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n" + _NAMED_2005 + _LICENCE_2005
    ),
    "Dutch": (
        "Einde van Project Gutenberg's {title}, door {author}\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n" + _NAMED_2005 + _LICENCE_2005
    ),
    "Finnish": (
        "Project Gutenbergin {title}, kirjoittanut {author}, loppuu\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n" + _NAMED_2005 + _LICENCE_2005
    ),
    "Spanish": (
        "Fin del Proyecto Gutenberg EBook de {title}, por {author}\n\n"
        "*** END OF THIS PROJECT GUTENBERG EBOOK {TITLE} ***\n\n" + _NAMED_2005 + _LICENCE_2005
    ),
    "Australia": (
        "THE END\n\n\nProject Gutenberg Australia\nhttp://www.gutenberg.net.au\n"
    ).replace("THE END\n\n\n", ""),
    "Canada": "[End of _{title}_, by {author}]\n",
    "no footer": "",
}  # fmt: skip

PROSE = (
    "THE LAMP\n\n\nCHAPTER I\n\n"
    "There was a lamp in the upper window, and it had been there, as far\n"
    "as anybody could tell me, every night for thirty years.\n\n"
    'I went up to see who lit it.  "You may ask," said the woman at the\n'
    'door, "but there is nobody in this house who will answer you."\n\n'
    "CHAPTER II\n\n"
    "He was seen no more; and the end of the road was as dark as before.\n\n"
    "We had no files, no version of the story, and no copyright in it."
)
VERSE = (
    "THE TYGER\n\n\nTyger Tyger, burning bright,\nIn the forests of the night;\n"
    "What immortal hand or eye,\nCould frame thy fearful symmetry?\n\n"
    "In what distant deeps or skies,\nBurnt the fire of thine eyes?\n"
    "On what wings dare he aspire?\nWhat the hand, dare seize the fire?"
)
FINNISH = (
    "LAMPPU\n\nKirj.\n\nMINNA TEKIJÄ\n\n\nWSOY, Porvoo, 1898.\n\n\n"
    "Yläikkunassa oli lamppu, ja se oli palanut siellä niin kauan kuin\n"
    "kukaan muisti, joka yö kolmenkymmenen vuoden ajan.\n\n"
    "Menin ylös katsomaan, kuka sen sytytti."
)
CHINESE = "第一回\n\n" + "　　上窗有一盞燈，三十年來每夜如此，誰也說不出緣故。 " * 4 + "\n\n" + (
    "　　我上樓去看是誰點的。 門口的婦人說：“你可以問，只是這屋裡沒有人答你。” \n" * 5
)  # fmt: skip
PLAY = (
    "THE LAMP\n\nA Play in One Act\n\n\nPERSONS\n\n  HE, a traveller\n  SHE\n\n\n"
    "SCENE: An upper room.\n\n  HE\n  Who lit the lamp?\n\n  SHE\n  Nobody did.\n  [Exit.\n\n"
    "  HE\n  Then I shall put it out, and see who comes.\n\nCURTAIN\n\nTHE END"
)
BODIES = {"prose": PROSE, "verse": VERSE, "Finnish": FINNISH, "Chinese": CHINESE, "play": PLAY}


def fill(wrapping: str) -> str:
    """A header or footer with the names of a book in it."""
    names = {"title": "The Lamp", "author": "Amy Author", "TITLE": "THE LAMP",
             "language": "English"}  # fmt: skip
    for name, value in names.items():
        wrapping = wrapping.replace("{" + name + "}", value)
    return wrapping


def book(header: str, body: str, footer: str) -> str:
    """A file: a header and a footer by their names, round a body."""
    return f"{fill(HEADERS[header])}\n\n\n{body}\n\n\n\n{fill(FOOTERS[footer])}"
