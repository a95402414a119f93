//! Who is paid: French and international merchants, and how people spend at each kind of them.

use crate::clock::Hours;
use crate::random::Random;

/// What a merchant sells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Groceries,
    Fuel,
    Utilities,
    Telecom,
    Transport,
    Travel,
    Electronics,
    Marketplace,
    Restaurant,
    Fashion,
    Home,
    Health,
    Insurance,
    Streaming,
    Gaming,
    Gambling,
    Crypto,
    GiftCards,
    Remittance,
    Luxury,
    CashMachine,
}

/// A merchant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merchant {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// ISO 3166, two letters.
    pub(crate) country: &'static str,
    /// How often people pay here, against the others; cash machines are not paid.
    weight: u8,
}

/// How people pay a kind of merchant.
#[derive(Debug)]
pub(crate) struct Habits {
    pub(crate) median_cents: u32,
    /// As [`Random::log_normal`] takes it.
    pub(crate) spread: u16,
    pub(crate) hours: Hours,
    /// Against each other: card at a terminal, online, direct debit.
    pub(crate) ways: [u8; 3],
}

impl Kind {
    pub(crate) fn habits(self) -> Habits {
        let (median_cents, spread, hours, ways) = match self {
            Self::Groceries => (3_600, 280, Hours::Shop, [92, 8, 0]),
            Self::Fuel => (5_800, 130, Hours::Shop, [98, 0, 2]),
            Self::Utilities => (8_400, 190, Hours::Banking, [2, 8, 90]),
            Self::Telecom => (2_900, 150, Hours::Banking, [4, 10, 86]),
            Self::Transport => (2_100, 300, Hours::Shop, [50, 45, 5]),
            Self::Travel => (21_000, 310, Hours::Online, [15, 84, 1]),
            Self::Electronics => (12_500, 360, Hours::Shop, [62, 37, 1]),
            Self::Marketplace => (3_400, 340, Hours::Online, [3, 96, 1]),
            Self::Restaurant => (1_900, 200, Hours::Evening, [70, 30, 0]),
            Self::Fashion => (5_900, 250, Hours::Shop, [65, 35, 0]),
            Self::Home => (6_800, 330, Hours::Shop, [80, 19, 1]),
            Self::Health => (2_600, 260, Hours::Shop, [85, 14, 1]),
            Self::Insurance => (6_400, 180, Hours::Banking, [1, 9, 90]),
            Self::Streaming => (1_300, 90, Hours::Banking, [0, 45, 55]),
            Self::Gaming => (2_400, 300, Hours::Evening, [2, 97, 1]),
            Self::Gambling => (2_500, 330, Hours::Evening, [25, 74, 1]),
            Self::Crypto => (14_000, 420, Hours::Online, [0, 98, 2]),
            Self::GiftCards => (4_600, 240, Hours::Online, [30, 70, 0]),
            Self::Remittance => (17_000, 330, Hours::Online, [20, 79, 1]),
            Self::Luxury => (52_000, 340, Hours::Shop, [75, 25, 0]),
            Self::CashMachine => (6_000, 200, Hours::Shop, [1, 0, 0]),
        };
        Habits { median_cents, spread, hours, ways }
    }
}

/// Merchants, ready to be picked by weight.
#[derive(Debug, Clone)]
pub(crate) struct Merchants {
    /// Each one as often as it weighs, so that a pick is one look-up.
    by_weight: Vec<&'static Merchant>,
}

impl Merchants {
    pub(crate) fn new() -> Self {
        let by_weight =
            ALL.iter().flat_map(|merchant| std::iter::repeat_n(merchant, usize::from(merchant.weight))).collect();
        Self { by_weight }
    }

    /// One that people pay, the busy ones more often.
    pub(crate) fn paid(&self, random: &mut Random) -> &'static Merchant {
        random.pick(&self.by_weight)
    }
}

/// One of these kinds, each merchant as likely; at least one kind must be given.
pub(crate) fn one_of(random: &mut Random, kinds: &[Kind]) -> &'static Merchant {
    let candidates: Vec<_> = ALL.iter().filter(|merchant| kinds.contains(&merchant.kind)).collect();
    random.pick(&candidates)
}

/// A cash machine in France, or one abroad.
pub(crate) fn cash_machine(random: &mut Random, abroad: bool) -> &'static Merchant {
    let candidates: Vec<_> = ALL
        .iter()
        .filter(|merchant| merchant.kind == Kind::CashMachine && (merchant.country != "FR") == abroad)
        .collect();
    random.pick(&candidates)
}

/// What is paid with in a country.
pub(crate) fn currency(country: &str) -> &'static str {
    match country {
        "GB" => "GBP",
        "US" => "USD",
        "CH" => "CHF",
        "PL" => "PLN",
        "SE" => "SEK",
        "TR" => "TRY",
        _ => "EUR",
    }
}

const fn merchant(name: &'static str, kind: Kind, country: &'static str, weight: u8) -> Merchant {
    Merchant { name, kind, country, weight }
}

const ALL: &[Merchant] = &[
    merchant("Carrefour", Kind::Groceries, "FR", 30),
    merchant("Leclerc", Kind::Groceries, "FR", 30),
    merchant("Lidl", Kind::Groceries, "FR", 22),
    merchant("Auchan", Kind::Groceries, "FR", 18),
    merchant("Intermarche", Kind::Groceries, "FR", 20),
    merchant("Monoprix", Kind::Groceries, "FR", 15),
    merchant("Franprix", Kind::Groceries, "FR", 14),
    merchant("Systeme U", Kind::Groceries, "FR", 14),
    merchant("Picard", Kind::Groceries, "FR", 7),
    merchant("Tesco", Kind::Groceries, "GB", 3),
    merchant("Migros", Kind::Groceries, "CH", 3),
    merchant("TotalEnergies", Kind::Fuel, "FR", 20),
    merchant("Esso", Kind::Fuel, "FR", 8),
    merchant("Shell", Kind::Fuel, "DE", 4),
    merchant("EDF", Kind::Utilities, "FR", 16),
    merchant("Engie", Kind::Utilities, "FR", 9),
    merchant("Veolia", Kind::Utilities, "FR", 9),
    merchant("Orange", Kind::Telecom, "FR", 14),
    merchant("SFR", Kind::Telecom, "FR", 10),
    merchant("Bouygues", Kind::Telecom, "FR", 9),
    merchant("Free", Kind::Telecom, "FR", 11),
    merchant("SNCF", Kind::Transport, "FR", 15),
    merchant("RATP", Kind::Transport, "FR", 14),
    merchant("Transilien", Kind::Transport, "FR", 9),
    merchant("Uber", Kind::Transport, "NL", 13),
    merchant("BlaBlaCar", Kind::Transport, "FR", 5),
    merchant("Air France", Kind::Travel, "FR", 6),
    merchant("Booking.com", Kind::Travel, "NL", 7),
    merchant("Airbnb", Kind::Travel, "IE", 6),
    merchant("easyJet", Kind::Travel, "GB", 4),
    merchant("Ryanair", Kind::Travel, "IE", 4),
    merchant("Lufthansa", Kind::Travel, "DE", 2),
    merchant("Darty", Kind::Electronics, "FR", 8),
    merchant("Fnac", Kind::Electronics, "FR", 10),
    merchant("Boulanger", Kind::Electronics, "FR", 7),
    merchant("Apple Store", Kind::Electronics, "IE", 6),
    merchant("MediaMarkt", Kind::Electronics, "DE", 3),
    merchant("Amazon.fr", Kind::Marketplace, "LU", 34),
    merchant("Cdiscount", Kind::Marketplace, "FR", 10),
    merchant("Vinted", Kind::Marketplace, "LT", 10),
    merchant("Zalando", Kind::Marketplace, "DE", 8),
    merchant("AliExpress", Kind::Marketplace, "CN", 6),
    merchant("eBay", Kind::Marketplace, "GB", 5),
    merchant("Deliveroo", Kind::Restaurant, "FR", 12),
    merchant("McDonald's", Kind::Restaurant, "FR", 16),
    merchant("Boulangerie Paul", Kind::Restaurant, "FR", 12),
    merchant("Starbucks", Kind::Restaurant, "FR", 6),
    merchant("Café de la Gare", Kind::Restaurant, "FR", 9),
    merchant("Zara", Kind::Fashion, "ES", 8),
    merchant("H&M", Kind::Fashion, "SE", 7),
    merchant("Kiabi", Kind::Fashion, "FR", 6),
    merchant("Décathlon", Kind::Fashion, "FR", 12),
    merchant("Ikea", Kind::Home, "FR", 7),
    merchant("Leroy Merlin", Kind::Home, "FR", 11),
    merchant("Castorama", Kind::Home, "FR", 6),
    merchant("La Poste", Kind::Home, "FR", 10),
    merchant("Pharmacie Lafayette", Kind::Health, "FR", 12),
    merchant("Doctolib", Kind::Health, "FR", 8),
    merchant("Optic 2000", Kind::Health, "FR", 3),
    merchant("AXA", Kind::Insurance, "FR", 7),
    merchant("MAIF", Kind::Insurance, "FR", 6),
    merchant("Groupama", Kind::Insurance, "FR", 5),
    merchant("Netflix", Kind::Streaming, "NL", 12),
    merchant("Spotify", Kind::Streaming, "SE", 11),
    merchant("Disney+", Kind::Streaming, "NL", 7),
    merchant("Canal+", Kind::Streaming, "FR", 7),
    merchant("Steam", Kind::Gaming, "US", 6),
    merchant("PlayStation Store", Kind::Gaming, "GB", 5),
    merchant("Roblox", Kind::Gaming, "US", 3),
    merchant("FDJ", Kind::Gambling, "FR", 6),
    merchant("Winamax", Kind::Gambling, "FR", 4),
    merchant("Betclic", Kind::Gambling, "FR", 3),
    merchant("Coinbase", Kind::Crypto, "IE", 2),
    merchant("Binance", Kind::Crypto, "FR", 2),
    merchant("Bitpanda", Kind::Crypto, "AT", 1),
    merchant("Paysafecard", Kind::GiftCards, "AT", 2),
    merchant("Neosurf", Kind::GiftCards, "FR", 1),
    merchant("Eneba", Kind::GiftCards, "LT", 2),
    merchant("Western Union", Kind::Remittance, "US", 2),
    merchant("Wise", Kind::Remittance, "GB", 4),
    merchant("MoneyGram", Kind::Remittance, "US", 1),
    merchant("Louis Vuitton", Kind::Luxury, "FR", 2),
    merchant("Galeries Lafayette", Kind::Luxury, "FR", 4),
    merchant("Cartier", Kind::Luxury, "FR", 1),
    merchant("BNP Paribas", Kind::CashMachine, "FR", 0),
    merchant("Crédit Agricole", Kind::CashMachine, "FR", 0),
    merchant("Société Générale", Kind::CashMachine, "FR", 0),
    merchant("La Banque Postale", Kind::CashMachine, "FR", 0),
    merchant("CaixaBank", Kind::CashMachine, "ES", 0),
    merchant("Barclays", Kind::CashMachine, "GB", 0),
    merchant("Euronet", Kind::CashMachine, "PL", 0),
    merchant("Garanti BBVA", Kind::CashMachine, "TR", 0),
    merchant("UBS", Kind::CashMachine, "CH", 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn names_are_unique_and_only_cash_machines_are_never_paid() {
        for (index, one) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != one.name), "{}", one.name);
            assert_eq!(one.weight == 0, one.kind == Kind::CashMachine, "{}", one.name);
        }
    }

    #[test]
    fn cash_machines_are_where_they_are_asked_for() {
        let mut random = Random::new(1, Stream::Transactions);
        for _ in 0..50 {
            assert_eq!(cash_machine(&mut random, false).country, "FR");
            assert_ne!(cash_machine(&mut random, true).country, "FR");
        }
    }
}
