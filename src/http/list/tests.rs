//! Properties of lists, against their definition.

use proptest::prelude::*;

use super::*;

#[derive(Debug)]
struct Item {
    id: Uuid,
    created: Timestamp,
    name: String,
}

const COLUMNS: &[Column<Item>] = &[
    Column::id("id", |item, _| Value::Id(item.id)),
    Column::time("created", |item, _| Value::Time(item.created)),
    Column::text("name", |item, _| Value::Text(&item.name)),
];

fn items() -> impl Strategy<Value = Vec<Item>> {
    let item = (any::<u128>(), 0..3_i64, "[a-c]{0,2}").prop_map(|(id, at, name)| Item {
        id: Uuid::from_u128(id),
        created: Timestamp::from_second(at).unwrap(),
        name,
    });
    prop::collection::vec(item, 0..40)
}

fn read(text: &str) -> Result<Query<Item>, crate::http::Refusal> {
    Query::read(text, COLUMNS)
}

fn page(text: &str, items: &[Item]) -> Result<Page<Uuid>, NoPage> {
    read(text)
        .unwrap()
        .page(items.iter(), Timestamp::UNIX_EPOCH, |item| item.id)
}

proptest! {
    /// Joined, the pages are the list: nothing is lost, doubled or out of order.
    #[test]
    fn pages_partition_the_list(
        items in items(),
        size in 1..9_usize,
        sort in prop::sample::select(vec!["created", "desc:created", "name", "desc:name", "id"]),
    ) {
        let whole = page(&format!("sort_by={sort}&size=10000"), &items).unwrap();
        prop_assert_eq!(whole.total, items.len());
        let mut joined = Vec::new();
        for n in 1..=whole.total.div_ceil(size).max(1) {
            let page = page(&format!("sort_by={sort}&size={size}&page={n}"), &items).unwrap();
            prop_assert!(page.items.len() <= size);
            prop_assert_eq!(page.total, items.len());
            joined.extend(page.items);
        }
        prop_assert_eq!(&joined, &whole.items);
        let behind = whole.total.div_ceil(size).max(1) + 1;
        let behind = page(&format!("size={size}&page={behind}"), &items);
        prop_assert!(behind.is_err());
    }

    /// `desc` is `asc` backwards, ties included.
    #[test]
    fn descending_is_ascending_backwards(
        items in items(),
        by in prop::sample::select(vec!["created", "name", "id"]),
    ) {
        let up = page(&format!("sort_by=asc:{by}&size=10000"), &items).unwrap();
        let mut down = page(&format!("sort_by=desc:{by}&size=10000"), &items).unwrap();
        down.items.reverse();
        prop_assert_eq!(up.items, down.items);
    }

    /// `and` selects what every condition selects, `or` what any does.
    #[test]
    fn conditions_are_joined(items in items(), a in "[a-c]", b in "[a-c]") {
        let select = |query: &str| page(&format!("{query}&size=10000"), &items).unwrap().items;
        let (with_a, with_b) = (select(&format!("name=contains:{a}")), select(&format!("name=endswith:{b}")));
        let both = format!("name=contains:{a}&name=endswith:{b}");
        for id in items.iter().map(|item| item.id) {
            let (has_a, has_b) = (with_a.contains(&id), with_b.contains(&id));
            prop_assert_eq!(select(&both).contains(&id), has_a && has_b);
            let either = select(&format!("{both}&logical_operator=or")).contains(&id);
            prop_assert_eq!(either, has_a || has_b);
        }
    }

    /// A condition and its contrary share the list among them.
    #[test]
    fn contraries_complement(items in items(), operand in "[a-c_]{0,2}") {
        for (yes, no) in [("equals", "notequals"), ("contains", "notcontains")] {
            let count = |op| page(&format!("name={op}:{operand}"), &items).unwrap().total;
            prop_assert_eq!(count(yes) + count(no), items.len());
        }
    }

    #[test]
    fn reading_garbage_never_panics(
        text in ".{0,200}",
        name in prop::sample::select(vec!["page", "size", "sort_by", "name", "id", "created", "hydrate"]),
        operator in prop::sample::select(vec!["", "in:", "oneof:", "gt:", "isnull:", "desc:", "contains:"]),
    ) {
        let _ = read(&text);
        if let Ok(query) = read(&format!("{name}={operator}{text}")) {
            let _ = query.page(std::iter::empty(), Timestamp::UNIX_EPOCH, |item| item.id);
        }
    }
}

#[test]
fn an_empty_list_has_one_page() {
    let page = page("", &[]).unwrap();
    assert_eq!(
        (page.index, page.max_size, page.total_pages, page.total),
        (1, 20, 1, 0)
    );
}

#[test]
fn has_no_more_conditions_than_it_can_bear() {
    let query = |n| "name=x&".repeat(n);
    assert!(read(&query(32)).is_ok());
    assert!(read(&query(33)).is_err());
}
