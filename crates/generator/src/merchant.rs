//! French and international merchants, and how people spend at each kind of them.

use crate::hours::Hours;
use crate::random::Random;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MerchantKind {
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

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MerchantProfile {
    pub(crate) name: &'static str,
    pub(crate) kind: MerchantKind,
    /// ISO 3166, two letters.
    pub(crate) country: &'static str,
    /// Relative frequency of payments; 0 for cash machines.
    weight: u8,
}

/// Spending habits at a kind of merchant.
#[derive(Debug)]
pub(crate) struct SpendingHabits {
    pub(crate) median_cents: u32,
    /// The spread for [`Random::log_normal`].
    pub(crate) spread: u16,
    pub(crate) hours: Hours,
    /// Relative weights of card at a terminal, online, direct debit.
    pub(crate) ways: [u8; 3],
}

impl MerchantKind {
    pub(crate) fn habits(self) -> SpendingHabits {
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
        SpendingHabits { median_cents, spread, hours, ways }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Merchants {
    /// Each one repeated by its weight, so that a pick is one look-up.
    by_weight: Vec<&'static MerchantProfile>,
}

impl Merchants {
    pub(crate) fn new() -> Self {
        let by_weight =
            ALL.iter().flat_map(|merchant| std::iter::repeat_n(merchant, usize::from(merchant.weight))).collect();
        Self { by_weight }
    }

    /// A random merchant, the busy ones more often.
    pub(crate) fn paid(&self, random: &mut Random) -> &'static MerchantProfile {
        random.pick(&self.by_weight)
    }
}

/// A random merchant of these kinds, each equally likely; there must be at least one kind.
pub(crate) fn one_of(random: &mut Random, kinds: &[MerchantKind]) -> &'static MerchantProfile {
    let candidates: Vec<_> = ALL.iter().filter(|merchant| kinds.contains(&merchant.kind)).collect();
    random.pick(&candidates)
}

/// A cash machine in France, or one abroad.
pub(crate) fn cash_machine(random: &mut Random, abroad: bool) -> &'static MerchantProfile {
    let candidates: Vec<_> = ALL
        .iter()
        .filter(|merchant| merchant.kind == MerchantKind::CashMachine && (merchant.country != "FR") == abroad)
        .collect();
    random.pick(&candidates)
}

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

const fn merchant(name: &'static str, kind: MerchantKind, country: &'static str, weight: u8) -> MerchantProfile {
    MerchantProfile { name, kind, country, weight }
}

const ALL: &[MerchantProfile] = &[
    merchant("Carrefour", MerchantKind::Groceries, "FR", 30),
    merchant("Leclerc", MerchantKind::Groceries, "FR", 30),
    merchant("Lidl", MerchantKind::Groceries, "FR", 22),
    merchant("Auchan", MerchantKind::Groceries, "FR", 18),
    merchant("Intermarche", MerchantKind::Groceries, "FR", 20),
    merchant("Monoprix", MerchantKind::Groceries, "FR", 15),
    merchant("Franprix", MerchantKind::Groceries, "FR", 14),
    merchant("Systeme U", MerchantKind::Groceries, "FR", 14),
    merchant("Picard", MerchantKind::Groceries, "FR", 7),
    merchant("Tesco", MerchantKind::Groceries, "GB", 3),
    merchant("Migros", MerchantKind::Groceries, "CH", 3),
    merchant("TotalEnergies", MerchantKind::Fuel, "FR", 20),
    merchant("Esso", MerchantKind::Fuel, "FR", 8),
    merchant("Shell", MerchantKind::Fuel, "DE", 4),
    merchant("EDF", MerchantKind::Utilities, "FR", 16),
    merchant("Engie", MerchantKind::Utilities, "FR", 9),
    merchant("Veolia", MerchantKind::Utilities, "FR", 9),
    merchant("Orange", MerchantKind::Telecom, "FR", 14),
    merchant("SFR", MerchantKind::Telecom, "FR", 10),
    merchant("Bouygues", MerchantKind::Telecom, "FR", 9),
    merchant("Free", MerchantKind::Telecom, "FR", 11),
    merchant("SNCF", MerchantKind::Transport, "FR", 15),
    merchant("RATP", MerchantKind::Transport, "FR", 14),
    merchant("Transilien", MerchantKind::Transport, "FR", 9),
    merchant("Uber", MerchantKind::Transport, "NL", 13),
    merchant("BlaBlaCar", MerchantKind::Transport, "FR", 5),
    merchant("Air France", MerchantKind::Travel, "FR", 6),
    merchant("Booking.com", MerchantKind::Travel, "NL", 7),
    merchant("Airbnb", MerchantKind::Travel, "IE", 6),
    merchant("easyJet", MerchantKind::Travel, "GB", 4),
    merchant("Ryanair", MerchantKind::Travel, "IE", 4),
    merchant("Lufthansa", MerchantKind::Travel, "DE", 2),
    merchant("Darty", MerchantKind::Electronics, "FR", 8),
    merchant("Fnac", MerchantKind::Electronics, "FR", 10),
    merchant("Boulanger", MerchantKind::Electronics, "FR", 7),
    merchant("Apple Store", MerchantKind::Electronics, "IE", 6),
    merchant("MediaMarkt", MerchantKind::Electronics, "DE", 3),
    merchant("Amazon.fr", MerchantKind::Marketplace, "LU", 34),
    merchant("Cdiscount", MerchantKind::Marketplace, "FR", 10),
    merchant("Vinted", MerchantKind::Marketplace, "LT", 10),
    merchant("Zalando", MerchantKind::Marketplace, "DE", 8),
    merchant("AliExpress", MerchantKind::Marketplace, "CN", 6),
    merchant("eBay", MerchantKind::Marketplace, "GB", 5),
    merchant("Deliveroo", MerchantKind::Restaurant, "FR", 12),
    merchant("McDonald's", MerchantKind::Restaurant, "FR", 16),
    merchant("Boulangerie Paul", MerchantKind::Restaurant, "FR", 12),
    merchant("Starbucks", MerchantKind::Restaurant, "FR", 6),
    merchant("Café de la Gare", MerchantKind::Restaurant, "FR", 9),
    merchant("Zara", MerchantKind::Fashion, "ES", 8),
    merchant("H&M", MerchantKind::Fashion, "SE", 7),
    merchant("Kiabi", MerchantKind::Fashion, "FR", 6),
    merchant("Décathlon", MerchantKind::Fashion, "FR", 12),
    merchant("Ikea", MerchantKind::Home, "FR", 7),
    merchant("Leroy Merlin", MerchantKind::Home, "FR", 11),
    merchant("Castorama", MerchantKind::Home, "FR", 6),
    merchant("La Poste", MerchantKind::Home, "FR", 10),
    merchant("Pharmacie Lafayette", MerchantKind::Health, "FR", 12),
    merchant("Doctolib", MerchantKind::Health, "FR", 8),
    merchant("Optic 2000", MerchantKind::Health, "FR", 3),
    merchant("AXA", MerchantKind::Insurance, "FR", 7),
    merchant("MAIF", MerchantKind::Insurance, "FR", 6),
    merchant("Groupama", MerchantKind::Insurance, "FR", 5),
    merchant("Netflix", MerchantKind::Streaming, "NL", 12),
    merchant("Spotify", MerchantKind::Streaming, "SE", 11),
    merchant("Disney+", MerchantKind::Streaming, "NL", 7),
    merchant("Canal+", MerchantKind::Streaming, "FR", 7),
    merchant("Steam", MerchantKind::Gaming, "US", 6),
    merchant("PlayStation Store", MerchantKind::Gaming, "GB", 5),
    merchant("Roblox", MerchantKind::Gaming, "US", 3),
    merchant("FDJ", MerchantKind::Gambling, "FR", 6),
    merchant("Winamax", MerchantKind::Gambling, "FR", 4),
    merchant("Betclic", MerchantKind::Gambling, "FR", 3),
    merchant("Coinbase", MerchantKind::Crypto, "IE", 2),
    merchant("Binance", MerchantKind::Crypto, "FR", 2),
    merchant("Bitpanda", MerchantKind::Crypto, "AT", 1),
    merchant("Paysafecard", MerchantKind::GiftCards, "AT", 2),
    merchant("Neosurf", MerchantKind::GiftCards, "FR", 1),
    merchant("Eneba", MerchantKind::GiftCards, "LT", 2),
    merchant("Western Union", MerchantKind::Remittance, "US", 2),
    merchant("Wise", MerchantKind::Remittance, "GB", 4),
    merchant("MoneyGram", MerchantKind::Remittance, "US", 1),
    merchant("Louis Vuitton", MerchantKind::Luxury, "FR", 2),
    merchant("Galeries Lafayette", MerchantKind::Luxury, "FR", 4),
    merchant("Cartier", MerchantKind::Luxury, "FR", 1),
    merchant("BNP Paribas", MerchantKind::CashMachine, "FR", 0),
    merchant("Crédit Agricole", MerchantKind::CashMachine, "FR", 0),
    merchant("Société Générale", MerchantKind::CashMachine, "FR", 0),
    merchant("La Banque Postale", MerchantKind::CashMachine, "FR", 0),
    merchant("CaixaBank", MerchantKind::CashMachine, "ES", 0),
    merchant("Barclays", MerchantKind::CashMachine, "GB", 0),
    merchant("Euronet", MerchantKind::CashMachine, "PL", 0),
    merchant("Garanti BBVA", MerchantKind::CashMachine, "TR", 0),
    merchant("UBS", MerchantKind::CashMachine, "CH", 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomStream;

    #[test]
    fn names_are_unique_and_only_cash_machines_are_never_paid() {
        for (index, one) in ALL.iter().enumerate() {
            assert!(ALL[..index].iter().all(|other| other.name != one.name), "{}", one.name);
            assert_eq!(one.weight == 0, one.kind == MerchantKind::CashMachine, "{}", one.name);
        }
    }

    #[test]
    fn cash_machines_are_in_the_chosen_country() {
        let mut random = Random::new(1, RandomStream::Transactions);
        for _ in 0..50 {
            assert_eq!(cash_machine(&mut random, false).country, "FR");
            assert_ne!(cash_machine(&mut random, true).country, "FR");
        }
    }
}
