from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    start: object
    end: object


import re

TIME = re.compile(
    r"\b(yesterday|today|tonight|tomorrow|last|next|ago|this (?:week|month|year|morning|weekend|past|summer)|monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|march|april|june|july|august|september|october|november|december|weekend|recently|since|(?:19|20)\d\d|in \w+ (?:days|weeks|months)|for (?:a|\d+|two|three|four|five|six|ten) (?:years?|months?|weeks?))\b",
    re.I,
)


def expressions(text, now, sessions=()):
    return TIME.findall(text)
