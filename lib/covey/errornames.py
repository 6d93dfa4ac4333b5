"""The errors that an IKEv2 notification can tell, by their IANA names: for people and logs."""

from covey import iana

NAMES = {
    iana.UNSUPPORTED_CRITICAL_PAYLOAD: "unsupported_critical_payload",
    iana.INVALID_IKE_SPI: "invalid_ike_spi",
    iana.INVALID_MAJOR_VERSION: "invalid_major_version",
    iana.INVALID_SYNTAX: "invalid_syntax",
    iana.INVALID_MESSAGE_ID: "invalid_message_id",
    iana.NO_PROPOSAL_CHOSEN: "no_proposal_chosen",
    iana.INVALID_KE_PAYLOAD: "invalid_ke_payload",
    iana.AUTHENTICATION_FAILED: "authentication_failed",
    iana.NO_ADDITIONAL_SAS: "no_additional_sas",
    iana.TEMPORARY_FAILURE: "temporary_failure",
    iana.CHILD_SA_NOT_FOUND: "child_sa_not_found",
    iana.INVALID_GROUP_ID: "invalid_group_id",
    iana.AUTHORIZATION_FAILED: "authorization_failed",
    iana.REGISTRATION_FAILED: "registration_failed",
}
