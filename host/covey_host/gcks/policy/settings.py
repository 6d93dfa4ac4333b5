"""What covey.toml says, once it is read: of the site, and of each group."""

from dataclasses import dataclass, field

from ..policyvalues import Listen

TELL, STOP = "tell", "stop"  # what a member does that hears nothing from its key server
INBAND, MULTICAST = "inband", "multicast"  # how a group's new keys reach its members
UNICAST = "unicast"  # how its data do, else MULTICAST
NONE, MAC, TESLA, ECDSA = "none", "mac", "tesla", "ecdsa"  # what proves who sent
REKEY_AT = 80  # % of a lifetime after which a group is rekeyed without being asked

# What each source_auth leaves to policy; in a Shape the others' stay what they are by default.
_OF_MODE = {
    NONE: (),
    MAC: ("mac_len",),
    TESLA: ("mac_len", "tesla_interval_ms", "tesla_lag", "tesla_chain", "tesla_drift_ppm"),
    ECDSA: ("ecdsa_batch",),
}


@dataclass(frozen=True)
class Shape:
    """What members learn at registration only: no rekey can change it, only starting over."""

    address: str
    port: int
    carrier: str
    carrier_port: int
    key_bits: int
    index_bits: int
    incarnation_bits: int
    private_attributes: bool = True
    single_sender: bool = False
    rekey: str = MULTICAST
    integrity_only: bool = False
    key_tree: int = 0  # degree; 0: none
    delivery: str = MULTICAST
    source_auth: str = NONE
    mac_len: int = 8
    tesla_interval_ms: int = 100
    tesla_lag: int = 2
    tesla_chain: int = 14
    tesla_drift_ppm: int = 500
    ecdsa_batch: int = 16

    @property
    def sender_id_bits(self) -> int:
        return self.index_bits + self.incarnation_bits

    @property
    def has_marker(self) -> bool:
        """Whether the non-ESP marker leads rekeys: ESP comes to their port too, or it is 4500."""
        return self.carrier == "udp" or self.carrier_port == 4500


@dataclass(frozen=True)
class GroupPolicy:
    """One [group.NAME] table. Durations in seconds unless named otherwise."""

    name: str
    address: str
    port: int
    carrier: str = "udp"
    carrier_port: int = 4500
    rekey: str = MULTICAST
    key_tree: int = 4
    private_attributes: bool = True
    single_sender: bool = False
    integrity_only: bool = False
    ppk: bool = False
    key_bits: int = 128
    lifetime_s: int = 3600
    rekey_lifetime_s: int = 14400
    atd_s: int = 5
    dtd_s: int = 10
    evict_atd_s: int = 2
    evict_dtd_s: int = 4
    evict_gap_ms: int = 1000
    backward_secrecy: bool = False
    fresh_join: bool = True
    source_auth: str = NONE
    mac_len: int = 8
    tesla_interval_ms: int = 100
    tesla_lag: int = 2
    tesla_chain: int = 14
    tesla_drift_ppm: int = 500
    ecdsa_batch: int = 16
    batch_window_ms: int = 1000
    max_silence_s: int = 0
    on_silence: str = TELL
    sender_id_form: tuple[int, int] = (10, 6)
    sender_ids: int = 4
    members: int = 1000
    repeats: int = 2
    repeat_spacing_ms: int = 1000
    rejoin_spread_s: int = 2
    delivery: str = MULTICAST
    relay_rate: int = 20_000
    report_interval_s: int = 0

    @property
    def relays_all(self) -> bool:
        """Whether data go to and from each member by way of the key server, never by multicast."""
        return self.delivery == UNICAST

    @property
    def may_relay(self) -> bool:
        """Whether a member may have unicast delivery: there is an attribute to say so, what others
        multicast is within the key server's reach, and no rekey but the inband one is needed."""
        is_heard = self.relays_all or self.carrier == "udp"
        return is_heard and self.private_attributes and self.source_auth == NONE

    @property
    def shape(self) -> Shape:
        return Shape(
            self.address,
            self.port,
            self.carrier,
            self.carrier_port,
            self.key_bits,
            *self.sender_id_form,
            self.private_attributes,
            self.single_sender,
            rekey=self.rekey,
            integrity_only=self.integrity_only,
            key_tree=self.key_tree if self.rekey == MULTICAST else 0,
            delivery=self.delivery,
            source_auth=self.source_auth,
            **{key: getattr(self, key) for key in _OF_MODE[self.source_auth]},
        )

    def delays_s(self, evicts: bool) -> tuple[int, int]:
        """ATD and DTD; shorter ones where somebody is put out."""
        if not evicts:
            return self.atd_s, self.dtd_s
        return min(self.atd_s, self.evict_atd_s), min(self.dtd_s, self.evict_dtd_s)


@dataclass(frozen=True)
class SitePolicy:
    identity: str
    listen: tuple[Listen, ...] = (Listen("0.0.0.0", 4500, True),)
    ike_idle_s: int = 600
    groups: dict[str, GroupPolicy] = field(default_factory=dict)
    liveness_s: int = 60
    ike_lifetime_s: int = 28800
    cookies_from: int = 64
    fragment_size: int = 1280
    servers: tuple[tuple[str, int | None], ...] = ()  # as members find them: hosts, ports

    @property
    def multicast_addresses(self) -> list[str]:
        """Of groups for which something is multicast."""
        return [group.address for group in self.groups.values() if not group.relays_all]
