"""Sailthru's naming rules in one object."""

from app.domain.destination_rules import DestinationRules
from app.sailthru.list_names import list_name, list_name_notes
from app.sailthru.vars import STANDARD_VARS, legal_var

RULES = DestinationRules(
    list_name=list_name, list_name_notes=list_name_notes, legal_var=legal_var, standard_vars=STANDARD_VARS
)
