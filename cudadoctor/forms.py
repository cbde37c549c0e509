"""What secrets look like in a text: by the form of a key, and by the place that it stands in.

Nothing here is loaded before `redact` has seen the mark of one. A pattern's match ends where a string of JSON
does, so that none crosses from one string into the next.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, cached_property

from cudadoctor.secrets import SECRET, is_secret, looks_random, named

#: Told of each value that is masked: what it is called, and the value itself.
Note = Callable[[str, str], None]
Keep = Callable[[re.Match[str]], str]

_HERE = re.escape(SECRET)
_HARMLESS = r"(?:[01]|true|false|none|null|yes|no|on|off)"
#: The end of a name whose value is a secret. Small letters grown together are words more often than secrets:
#: bypass, subtoken.
_NAME = r"""(?:(?<![A-Za-z])(?:token|credentials?|creds
        |(?:api|access|secret|private|account|auth|signing|encryption|subscription)[_-]?keys?(?:[_-]id)?)
    |(?-i:(?<=[A-Z_])(?<!BY)(?<!COM)(?<!SUR)(?<!TRES)PASS)|(?-i:(?<=[A-Z])(?<!SUB)TOKEN)
    |(?-i:(?<=[A-Z])(?<!OLD)PWD)|(?<=_)(?:pass|pwd|pw)|(?<=;)pwd|(?-i:(?<=[A-Z0-9]_)(?:KEY|AUTH))
    |(?<=[?&])(?:sig|key|signature|code)|(?<=x-amz-)(?:signature|credential)
    |(?<=x-goog-)(?:signature|credential)|(?-i:SharedAccessKey)
    |secrets?|password|passwd|passw|passphrase|passcode|apikey)(?:_?\d+)?"""
_LONGEST_NAME = 64


class _Form:
    """One pattern: what its group `secret` finds is masked, but for what `keep` returns of its end.

    A text that has none of `marks` in it (in small letters) is not looked through. Without a `label` a value
    is called by the name that stands before it.
    """

    def __init__(
        self, label: str, marks: tuple[str, ...], pattern: str, flags: int = 0, keep: Keep | None = None
    ) -> None:
        self.label, self.marks, self.keep = label, marks, keep
        self._pattern, self._flags = pattern, flags

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Return the pattern, compiled when the first text has a mark of it."""
        return re.compile(self._pattern, re.VERBOSE | self._flags)

    def mask(self, text: str, note: Note) -> str:
        """Return the text without what this form finds in it."""
        return self.pattern.sub(lambda found: self._masked(found, note), text)

    def _masked(self, found: re.Match[str], note: Note) -> str:
        value = found["secret"]
        kept = self.keep(found) if self.keep is not None else ""
        if kept == value:
            return found[0]
        start, end = found.start("secret") - found.start(), found.end("secret") - found.start()
        note(self.label or _called(found), value[: len(value) - len(kept)].strip("\"'\\"))
        return f"{found[0][:start]}{SECRET}{kept}{found[0][end:]}"


def _called(found: re.Match[str]) -> str:
    """Return the name before a value as it is written."""
    at = found.start("secret")
    before = found.string[max(0, at - _LONGEST_NAME) : at]
    name = re.search(r"([A-Za-z_][\w.-]*)[\\\"']*\s*[=:]?\s*[\\\"']*$", before)
    return name[1].strip(".-") if name else "secret"


# --- what is kept -------------------------------------------------------------------------------------------


def _all_unless(secret: bool, found: re.Match[str]) -> str:
    return "" if secret else found["secret"]


def _rest_of_path(found: re.Match[str]) -> str:
    """In a path the value of NAME=value ends with its component, or two paths become one."""
    if not re.search(r"/[^/\s:;\"']*$", found.string[: found.start()]):
        return ""
    end = re.search(r"[/:]", found["secret"])
    return found["secret"][end.start() :] if end else ""


def _not_random(found: re.Match[str]) -> str:
    """Digests say what they are."""
    before = found.string[max(0, found.start() - 12) : found.start()]
    digest = re.search(r"(?i)(?:sha\d{1,3}|md5|integrity)[=:\"' -]{1,3}$", before) or re.match(
        r"(?i)sha\d{1,3}-", found["secret"]
    )
    return _all_unless(digest is None and looks_random(found["secret"]), found)


def _not_by_name(found: re.Match[str]) -> str:
    """A name in small letters counts where it leaves no doubt."""
    name, value = found["name"], found["secret"]
    enough = ("sure", "likely") if name.isupper() else ("sure",)
    return _all_unless(named(name) in enough and is_secret(name, value), found)


def _piece_of_text(found: re.Match[str]) -> str:
    """The tokens of a model's configuration are pieces of text: "eos_token": "</s>"."""
    name = found["name"]
    return _all_unless(not name.lower().endswith("token") or bool(named(name)), found)


def _no_password(found: re.Match[str]) -> str:
    """The place of a password in .pgpass is that of a column in many an error message."""
    return _all_unless(".py:" not in found[0] and SECRET not in found["secret"], found)


# --- the forms ----------------------------------------------------------------------------------------------


def _keys() -> tuple[_Form, ...]:
    """Return the kinds of keys by the form that their makers give them.

    Case matters: AKIA is a mark of AWS, akia may be anything. pypi-attestations and hf_transfer are packages,
    and so may be what begins with sk-.
    """
    kinds = (
        (
            "Hugging Face token",
            ("hf_", "api_org_"),
            r"hf_(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{12,}|hf_[a-z]{20,}|api_org_[A-Za-z0-9]{20,}",
        ),
        (
            "GitHub token",
            ("gho_", "ghp_", "ghs_", "ghu_", "ghr_", "github_pat_"),
            r"gh[opsur]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,}",
        ),
        (
            "GitLab token",
            ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-"),
            r"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_-]{16,}(?:\.[a-z0-9]{2}\.[a-z0-9]{7,12})?",
        ),
        ("NGC key", ("nvapi-",), r"nvapi-[A-Za-z0-9_-]{16,}"),
        ("API key", ("sk-",), r"sk-(?=[A-Za-z_-]{0,99}\d)[A-Za-z0-9_-]{20,}"),
        ("Slack token", ("xox", "xapp-"), r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{10,}"),
        ("npm token", ("npm_",), r"npm_[A-Za-z0-9]{30,}"),
        ("PyPI token", ("pypi-age",), r"pypi-AgE[A-Za-z0-9_-]{16,}"),
        (
            "Google key",
            ("aiza", "ya29.", "gocspx-"),
            r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}",
        ),
        (
            "AWS key",
            ("akia", "asia", "iqoj", "fwog", "fqog"),
            r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|(?:IQoJ|FwoG|FQoG)[A-Za-z0-9+/]{60,}={0,2}",
        ),
        ("JWT", ("eyj",), r"eyJ[A-Za-z0-9_-]{8,999}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"),
    )
    return tuple(
        _Form(label, marks, rf"(?<![A-Za-z0-9])(?P<secret>{pattern})") for label, marks, pattern in kinds
    )


def _blocks() -> tuple[_Form, ...]:
    """Return the forms of keys that are longer than a word."""
    body = r"""(?:[^"'\\-]|\\{1,9}[nrt]|-(?!----)){16,16000}(?=-----END)
        |(?:(?:\s|\\{1,9}[nrt])*[A-Za-z0-9+/=]{20,})+"""
    return (
        _Form(
            "private key",
            ("private key",),
            rf"-----BEGIN\ [A-Z0-9\ ]{{0,40}}PRIVATE\ KEY(?:\ BLOCK)?-----(?!\s*{_HERE})(?P<secret>{body})",
        ),
        _Form(
            "SSH key",
            (" aaaa",),
            r"(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-nistp\d{3}|sk-ssh-[\w@.-]{1,40})[\ \t]{1,4}"
            r"(?P<secret>AAAA[A-Za-z0-9+/]{20,}={0,3})",
        ),
    )


def _addresses() -> tuple[_Form, ...]:
    """Return the forms of what addresses carry."""
    user = rf"(?!{_HERE}@)"
    return (
        # User and password; or a user alone, who is a token where he is long, or where there are no users.
        _Form(
            "URL password",
            ("@",),
            rf"""://{user}(?P<secret>[^/\s"'@:]*:[^/\s"']*|[^/\s"'@:\\]{{16,}}|(?<=http://)[^/\s"'@:\\]+
                |(?<=https://)[^/\s"'@:\\]+)(?=@)""",
        ),
        # conda's channels carry their token in the path.
        _Form("conda token", ("/t/",), r"""://[^\s"']{1,200}?/t/(?P<secret>[A-Za-z0-9-]{8,})(?=/)"""),
        _Form(
            "webhook",
            ("hooks.slack.com/", "/webhooks/", "webhook.office.com/"),
            r"(?:hooks\.slack\.com/(?:services|workflows|triggers)/|/api/(?:v\d{1,2}/)?webhooks/"
            r"|webhook\.office\.com/webhookb?\d?/)(?P<secret>[\w@/-]{8,})",
        ),
    )


def _headers() -> tuple[_Form, ...]:
    """Return the forms of lines of HTTP."""
    return (
        _Form(
            "Authorization",
            ("bearer", "authorization"),
            r"\b(?:[Bb]earer|(?i:authorization:\s*(?:basic|token)))\s+(?P<secret>[\w.~+/=-]{12,})",
        ),
        _Form(
            "Authorization",
            ("digest ",),
            rf"""\b(?:username|response|c?nonce|opaque)=(?P<q>\\{{0,8}}["'])(?!{_HERE})
            (?P<secret>[^"'\\]+)(?=(?P=q))""",
            re.IGNORECASE,
        ),
        _Form(
            "",
            ("-key:", "-token:", "authorization:"),
            rf"""\b(?:(?:x-)?(?:api|auth)-(?:key|token)|private-token|job-token|(?:proxy-)?authorization):
            [ \t]{{0,9}}
            (?!{_HERE})(?!(?:bearer|basic|token|digest)\b)(?P<secret>(?=[^\s"',]{{0,99}}\d)[^\s"',\\]{{6,}})""",
            re.IGNORECASE,
        ),
        _Form(
            "cookie",
            ("cookie:",),
            rf"""\bcookie:[ \t]{{0,9}}(?!{_HERE})(?P<secret>[\w.-]{{1,200}}=[^"'\\\r\n]+)""",
            re.IGNORECASE,
        ),
    )


def _values() -> tuple[_Form, ...]:
    """Return the forms of values whose name says that they are secrets."""
    insensitive = re.IGNORECASE
    return (
        # "name": "value", also where the quotes are those of a JSON inside a string.
        _Form(
            "",
            (":",),
            rf"""(?<!\\)(?P<q>\\{{0,8}}(?:(?P<double>")|'))
            (?P<name>[\w.-]{{0,80}}?(?:{_NAME}|authorization))(?P=q)
            \s{{0,9}}:\s{{0,9}}(?P=q)(?!{_HERE})(?!{_HARMLESS}(?P=q))
            (?P<secret>(?(double)[^"\\]+|[^"'\\]+))(?=(?P=q))""",
            insensitive,
            _piece_of_text,
        ),
        # 'name': "value", as Python writes a value that has a ' in it.
        _Form(
            "",
            (":",),
            rf"""'[\w.-]{{0,80}}?(?:{_NAME}|authorization)'\s{{0,9}}:\s{{0,9}}
            "(?!{_HERE})(?P<secret>[^"\\]+)(?=")""",
            insensitive,
        ),
        # "name": ["value", "value"], and name=['value'] of a Namespace: vLLM logs its --api-key so. One more
        # value is found each time.
        _Form(
            "",
            ("[",),
            rf"""(?<![\w.-])(?P<name>[\w.-]{{0,80}}?{_NAME})
            (?:\\{{0,8}}["']\s{{0,9}}:|\s{{0,3}}=)\s{{0,9}}\[\s{{0,9}}
            (?:\\{{0,8}}["']{_HERE}\\{{0,8}}["']\s{{0,9}},\s{{0,9}}){{0,99}}
            (?P<q>\\{{0,8}}["'])(?!{_HERE})(?P<secret>[^"'\\]+)(?=(?P=q))""",
            insensitive,
            _piece_of_text,
        ),
        # Of a login to a registry, as docker keeps it: base64, which has more in it than a word.
        _Form(
            "registry login",
            ("auth",),
            rf"""(?<!\\)(?P<q>\\{{0,8}}["'])(?:auth|identitytoken|registrytoken)(?P=q)
            \s{{0,9}}:\s{{0,9}}(?P=q)
            (?!{_HERE})(?P<secret>(?=[^"'\\]{{0,999}}(?-i:[0-9=]|[a-z][A-Z]))[^"'\\]{{8,}})(?=(?P=q))""",
            insensitive,
        ),
        # The value behind an option has a digit in it, which a word of a sentence has not. Of numbers only a
        # long one is a secret.
        _Form(
            "",
            ("--",),
            rf"""(?<![\w-])--(?:[a-z0-9_.]{{1,40}}-){{0,6}}(?:[a-z0-9_.]{{0,40}}
                (?:secret|password|passwd|passphrase|token|requirepass)
                |(?:api|access|secret|private|ngc|auth|account|wandb)-key|apikey|ngckey)[ \t]{{1,9}}
            (?!{_HERE})(?!(?!\d{{9}})[\d.]+(?:[\s"',;]|$))
            (?P<secret>(?=[^\s"',;=]{{0,99}}\d)[^\s"',;=\\-][^\s"',;\\]*)""",
            insensitive,
        ),
        # NAME=value where the name says so. `tiktoken==0.7` is a requirement, USE_TOKEN=1 a switch. A match
        # ends before a quote, a quoted one before , : } ] too.
        _Form(
            "",
            ("=",),
            rf"""{_NAME}\s*=\s*(?!=|["']?{_HERE})
            (?P<secret>"(?!{_HARMLESS}")[^"\\,:}}\]]+" | '(?!{_HARMLESS}')[^'"\\,:}}\]]+'
              | (?:\\?["'](?![}}\]:]))? (?!\[\\?["'])
                (?!{_HARMLESS}(?:[\s"',;&\\]|$)) (?:[^\s"',;&\\]|\\[^\s"'])+ )""",
            insensitive,
            _rest_of_path,
        ),
        # NAME: value, where a constant's name stands, or nothing else is in the line.
        _Form(
            "",
            (":",),
            r"""(?:^[ \t]*(?:-[ \t]+)?(?P<name>[\w.-]{1,60})[ \t]{0,9}:[ \t]+)
            (?P<secret>(?=\S{0,99}\d)[^\s"'\\,;{}\[\]]{6,})(?=[ \t]*$)""",
            re.MULTILINE,
            _not_by_name,
        ),
        _Form(
            "",
            (":",),
            r"""(?<![\w.-])(?P<name>[A-Z][A-Z0-9]{0,30}(?:_[A-Z0-9]{1,30}){1,8}):[ \t]+
            (?P<secret>(?=\S{0,99}\d)[^\s"'\\,;{}\[\]]{6,})""",
            0,
            _not_by_name,
        ),
    )


def _files() -> tuple[_Form, ...]:
    """Return the forms of lines of files that hold logins, and of commands that take one."""
    return (
        _Form(
            "netrc password",
            ("machine ", "login "),
            rf"""\b(?:machine|login)[ \t]+\S+\s+(?:\w+[ \t]+\S+\s+){{0,3}}?password[ \t]+
            (?P<secret>(?!{_HERE})[^\s"'\\]+)""",
        ),
        _Form(
            "password",
            ("password", "requirepass", "masterauth"),
            rf"""^[ \t]*(?:password|requirepass|masterauth)[ \t]+
            (?P<secret>(?!{_HERE})(?=\S{{0,99}}\d)[^\s"'\\]{{6,}})[ \t]*$""",
            re.MULTILINE,
        ),
        _Form(
            "pgpass password",
            (":5432:", ":6432:", ":*:"),
            r"""(?<![^\s"'])(?:\*|[\w.-]{1,253}):(?:\*|[56]432):[\w*.-]{1,63}:[\w*.@-]{1,63}:
            (?P<secret>[^\s"'\\]+)(?![^\s"'])""",
            0,
            _no_password,
        ),
        _Form(
            "password",
            ("curl ", "sshpass ", "redis-cli ", "docker login "),
            rf"""(?:\bcurl\b[^|;&\n]{{0,400}}?\s(?:-u|--user|-U|--proxy-user)[ \t=]{{1,4}}
                    ["']?[^\s:"'\\]{{0,99}}:
                |\bsshpass\s+-p[ \t]{{0,4}} | \bredis-cli\s[^|;&\n]{{0,400}}?-a[ \t]{{1,4}}
                |\bdocker\ login\s[^|;&\n]{{0,400}}?-p[ \t]{{1,4}})
            ["']?(?P<secret>(?!{_HERE})[^\s"'\\]+)""",
        ),
        _Form("W&B key", ("wandb login",), r"\bwandb\ login\s[^|;&\n]{0,99}?(?P<secret>\b[0-9a-f]{40}\b)"),
    )


#: A word by itself, or as a value. In a path, in a file name or before an @ it is something's name.
_RANDOM = r"""(?<![A-Za-z0-9_+/.@$%~\#\\-])
    (?P<secret>[A-Za-z0-9+/_-]{24,}(?:={1,2}(?=[\s"',;)\]}&]|$))?)(?![A-Za-z0-9_+/@=-]|\.\w)"""


@cache
def _forms() -> tuple[_Form, ...]:
    """Return the forms in the order in which they are looked for."""
    words = _Form("random word", (), _RANDOM, 0, _not_random)
    return (*_blocks(), *_keys(), *_addresses(), *_headers(), *_files(), *_values(), words)


#: What is masked can uncover what stood in its shadow: a text is gone through until nothing more is found.
_PASSES = 8


def mask(text: str, note: Note) -> str:
    """Return a text without the secrets in it; `note` is told of each."""
    for _ in range(_PASSES):
        before, lower = text, text.lower()
        for form in _forms():
            if not form.marks or any(mark in lower for mark in form.marks):
                text = form.mask(text, note)
        if text == before:
            break
    return text
