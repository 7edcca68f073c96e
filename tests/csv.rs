//! What CSV files may look like, and what is said about them.
#![cfg(feature = "cli")]

use std::fmt::Display;
use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use scanrnn::Message;
use scanrnn::dataset::{CALENDAR, Columns, CsvOptions, CsvRows, CsvTables, Missing, Table, read_csv};

/// Reads `content` as `data.csv`; texts are given without the folder.
fn read_with(content: impl AsRef<[u8]>, options: &CsvOptions<'_>) -> Result<(Vec<Table>, Vec<String>), String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data.csv");
    fs::write(&path, content).expect("a file");
    let short = |text: &dyn Display| text.to_string().replace(&format!("{}/", folder.path().display()), "");
    match read_csv(&path, options) {
        Ok(CsvTables { tables, notes }) => Ok((tables, notes.iter().map(|note| short(note)).collect())),
        Err(error) => Err(short(&error)),
    }
}

fn read(content: impl AsRef<[u8]>) -> (Table, Vec<String>) {
    let (mut tables, notes) = read_with(content, &CsvOptions::default()).expect("a table");
    assert_eq!(tables.len(), 1);
    (tables.remove(0), notes)
}

fn columns(table: &Table) -> Vec<Vec<f64>> {
    table.columns().map(<[f64]>::to_vec).collect()
}

fn dates(table: &Table) -> Vec<&str> {
    table.dates().map(|dates| dates.text.iter().map(String::as_str).collect()).unwrap_or_default()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("written");
    encoder.finish().expect("compressed")
}

#[test]
fn compressed_files_are_read_and_their_lines_counted() {
    let text = "date,load\n2024-01-01,1\n2024-01-02,2\n";
    assert_eq!(read(gzip(text)).0.columns().collect::<Vec<_>>(), read(text).0.columns().collect::<Vec<_>>());
    let members = [gzip("date,load\n2024-01-01,1\n"), gzip("2024-01-02,2\n")].concat();
    assert_eq!(columns(&read(members).0), [[1.0, 2.0]]);
    let wrong = read_with(gzip("date,load\n2024-01-01,1\n2024-01-02,x\n"), &CsvOptions::default()).expect_err("no number");
    assert_eq!(wrong, "data.csv:3, column load: \"x\" is not a number; write it as 1234.5 or choose another column");
    let cut = &gzip(text)[..20];
    assert!(read_with(cut, &CsvOptions::default()).is_err());
}

#[test]
fn delimiters_and_decimal_commas_are_told() {
    for content in ["t;a;b\n1;0,5;2\n2;1,5;3,25\n", "t\ta\tb\n1\t0.5\t2\n2\t1.5\t3.25\n", "t|a|b\n1|0.5|2\n2|1.5|3.25\n"] {
        assert_eq!(columns(&read(content).0), [vec![1.0, 2.0], vec![0.5, 1.5], vec![2.0, 3.25]], "{content}");
    }
    let wrong = read_with("a;b\n1,5;2\n2,5;x\n", &CsvOptions::default()).expect_err("no number");
    assert!(wrong.contains("write it as 1234,5"), "{wrong}");
    let thousands = read_with("a;b\n1,234;5\n", &CsvOptions::default()).expect_err("ambiguous");
    assert!(thousands.contains("data.csv:2, column a: \"1,234\" is not a number"), "{thousands}");
}

#[test]
fn blanks_may_part_cells() {
    let text = "  year     load   \"dew point\"\r\n  1999     0.5     2\r\n\r\n  2000   -11.5   3\r\n";
    for text in [text.as_bytes(), &gzip(text)] {
        let (table, notes) = read(text);
        assert_eq!((dates(&table), table.names().join("+")), (vec!["1999", "2000"], "load+dew point".into()));
        assert_eq!(columns(&table), [[0.5, -11.5], [2.0, 3.0]]);
        assert!(notes.is_empty(), "{notes:?}");
    }
    assert_eq!(columns(&read("-0.3 0.08\n 0.01  0.09\n").0), [[-0.3, 0.01], [0.08, 0.09]]);
    let wrong = read_with(text.replace("-11.5", "x"), &CsvOptions::default()).expect_err("no number");
    assert!(wrong.starts_with("data.csv:4, column load: \"x\" is not a number"), "{wrong}");

    let mut rows = CsvRows::new(text.as_bytes(), Message::from("rows"), &["load"], None, Missing::Error).expect("a header");
    assert_eq!((rows.next_row().expect("a row"), rows.next_row().expect("a row")), (Some(vec![0.5]), Some(vec![-11.5])));
}

#[test]
fn numbers_may_name_columns() {
    let (table, _) = read(",0\n1821,269\n1822,321\n1823,585\n");
    assert_eq!((dates(&table)[0], table.names().join("+"), columns(&table)), ("1821", "0".into(), vec![vec![269.0, 321.0, 585.0]]));
    let wide = "place,\"a, b\",1960,1961,1962,\nx,y,4.5,4,,\nz,y,,3,2,\n";
    let wrong = read_with(wide, &CsvOptions::default()).expect_err("a row a series");
    let what = "its columns are years: each row seems to be a series, not a time step";
    assert_eq!(wrong, format!("data.csv: {what}; turn the table, so that each row is a year, or name columns by --features"));
    let options = CsvOptions { columns: Columns::Named(&["1961"]), ..CsvOptions::default() };
    assert_eq!(columns(&read_with(wide, &options).expect("a table").0[0]), [[4.0, 3.0]]);
    assert_eq!(read("date,1960,1961,1962\n2024-01-01,1,2,3\n").0.names().len(), 3);
}

#[test]
fn a_quote_that_is_never_closed_is_refused() {
    let head = "date,load,note\n2024-01-01,1,\"a\nb\"\n";
    let rest = "2024-01-03,3,x\n2024-01-04,4,x\n";
    let refused = "data.csv:4: the quote that opens here is never closed; close it or remove it";
    for row in ["2024-01-02,2,\"see below\n", "2024-01-02,\"2,x\n", "\"2024-01-02,2,x\n"] {
        let content = format!("{head}{row}{rest}");
        assert_eq!(read_with(&content, &CsvOptions::default()).expect_err(row), refused);
        assert_eq!(read_with(gzip(&content), &CsvOptions::default()).expect_err(row), refused);
    }
    let header = read_with("date,\"load\n2024-01-01,1\n", &CsvOptions::default()).expect_err("no header");
    assert_eq!(header, "data.csv:1: the quote that opens here is never closed; close it or remove it");
    for row in ["2024-01-02,2,\"c\nd\"\n", "2024-01-02,2,\"c \"\"d\"\"\n\"\n", "2024-01-02,2,5\"\n", "2024-01-02,2,\"c\"\n"] {
        assert_eq!(columns(&read(format!("{head}{row}")).0), [[1.0, 2.0]], "{row}");
    }
}

#[test]
fn without_a_header_columns_are_numbered() {
    let (table, notes) = read("2024-01-01,1,10\n2024-01-02,2,20\n");
    assert_eq!(table.names(), ["c2", "c3"]);
    assert_eq!(columns(&table), [[1.0, 2.0], [10.0, 20.0]]);
    assert_eq!(dates(&table), ["2024-01-01", "2024-01-02"]);
    assert_eq!(notes, ["data.csv has no header: its columns are called c1 to c3"]);
}

#[test]
fn columns_of_text_are_left_out_with_a_note() {
    let (table, notes) = read("date,station,load\n2024-01-01,north,1\n2024-01-02,north,2\n");
    assert_eq!(table.names(), ["load"]);
    assert_eq!(notes, ["data.csv, column station: left out, \"north\" is no number"]);
}

#[test]
fn dates_and_text_that_begins_with_a_digit_are_left_out_too() {
    let content = "date,updated,size,at,load\n2024-01-01,2024-01-02,3XL,17:30,1\n2024-01-02,2024-01-03,3XL,17:30,2\n";
    for columns in [Columns::All, Columns::CloseOrAll] {
        let (tables, notes) = read_with(content, &CsvOptions { columns, ..CsvOptions::default() }).expect("a table");
        assert_eq!((tables[0].names(), dates(&tables[0])), (&["load".to_string()][..], vec!["2024-01-01", "2024-01-02"]));
        let left_out = |(name, cell)| format!("data.csv, column {name}: left out, {cell:?} is no number");
        assert_eq!(notes, [("updated", "2024-01-02"), ("size", "3XL"), ("at", "17:30")].map(left_out));
    }
    let wrong = read_with("date,load\n2024-01-01,\"$5,128\"\n", &CsvOptions::default()).expect_err("no number");
    assert!(wrong.contains("column load: \"$5,128\" is not a number"), "{wrong}");
}

#[test]
fn numbers_may_be_in_thousands_and_millions() {
    let investing = "\"Date\",\"Price\",\"Vol.\",\"Change %\"\n\
                     \"01/31/2024\",\"1,184.40\",\"57.09M\",\"-1.94%\"\n\"01/30/2024\",\"188.04\",\"830K\",\"-1.92%\"\n";
    let (table, notes) = read(investing);
    assert_eq!(table.names(), ["Price", "Vol.", "Change %"]);
    assert_eq!(columns(&table)[1], [830e3, 57.09e6]);
    assert_eq!(notes, ["data.csv: the newest rows come first; they are read from the last to the first"]);
    // codes, unless they are named
    for codes in ["5M,10M", "1.5T,2.0L"] {
        let (first, second) = codes.split_once(',').expect("two");
        let content = format!("date,code,load\n2024-01-01,{first},1\n2024-01-02,{second},2\n");
        let (table, notes) = read(&content);
        assert_eq!(table.names(), ["load"], "{codes}");
        let wrong = if codes == "5M,10M" { first } else { second };
        assert_eq!(notes, [format!("data.csv, column code: left out, {wrong:?} is no number")]);
        let named = read_with(content, &CsvOptions { columns: Columns::Named(&["code"]), ..CsvOptions::default() });
        assert_eq!(named.map(|(tables, _)| columns(&tables[0])).ok(), (codes == "5M,10M").then(|| vec![vec![5e6, 10e6]]));
    }
    let (table, _) = read("date;load;vol\n2024-01-01;0,5;1,5B\n2024-01-02;0,25;2,5M\n");
    assert_eq!(columns(&table)[1], [1.5e9, 2.5e6]);
    let (table, _) = read("load;vol\n1;0,96K\n2;1,025K\n");
    assert_eq!(columns(&table)[1], [960.0, 1025.0]);
}

#[test]
fn without_a_column_of_numbers_it_is_said_what_the_columns_are() {
    let content = ",date,store,note\n0,2024-01-01,a,x\n1,2024-01-02,a,y\n";
    let wrong = read_with(content, &CsvOptions { id: Some("store"), ..CsvOptions::default() }).expect_err("no number");
    let others = "column c1 counts rows; column date has dates; column store tells series apart; column note has \"x\", no number";
    assert_eq!(wrong, format!("data.csv: no column of numbers is left: {others}; give at least one column of numbers"));
}

#[test]
fn a_first_line_may_name_the_delimiter() {
    for (separator, head) in [(";", "sep=;\r\n"), (",", "\u{feff}SEP=,\n"), ("\t", "sep=\t\r\n"), ("^", "\"sep=^\"\n")] {
        let content =
            |last: &str| format!("{head}{}", ["date,a,b\n2024-01-01,1,2.5\n2024-01-02,3,", last, "\n"].concat().replace(',', separator));
        let (table, notes) = read(content("4.5"));
        assert_eq!((table.names().join("+"), columns(&table)), ("a+b".into(), vec![vec![1.0, 3.0], vec![2.5, 4.5]]), "{head:?}");
        assert!(notes.is_empty(), "{notes:?}");
        let wrong = read_with(content("$"), &CsvOptions::default()).expect_err("no number");
        assert!(wrong.starts_with("data.csv:4, column b"), "{wrong}");
    }
    assert_eq!(read("sep=;\nA;B\n1,5;2\n2,5;3\n").0.columns().next(), Some(&[1.5, 2.5][..]));
    assert_eq!(columns(&read(gzip("sep=;\nA;B\n1;2\n")).0), [[1.0], [2.0]]);
}

#[test]
fn a_column_that_counts_rows_is_left_out_with_a_note() {
    for name in ["", "Unnamed: 0"] {
        let content = format!("{name},date,load\n0,2024-01-01,5\n1,2024-01-02,6\n");
        let (table, notes) = read(&content);
        assert_eq!(table.names(), ["load"]);
        assert!(matches!(&notes[..], [note] if note.contains("left out, it has no name and counts rows")), "{notes:?}");
        let named = if name.is_empty() { "c1" } else { name };
        let options = CsvOptions { columns: Columns::Named(&[named]), ..CsvOptions::default() };
        assert_eq!(columns(&read_with(&content, &options).expect("a table").0[0]), [[0.0, 1.0]]);
    }
}

#[test]
fn rows_may_be_counted_from_any_number_up_or_down() {
    let names = |cells: [&str; 3]| {
        let [a, b, c] = cells;
        read(format!(",date,load\n{a},2024-01-01,5\n{b},2024-01-02,6\n{c},2024-01-03,7\n")).0.names().join("+")
    };
    for cells in [["60", "61", "62"], ["159", "158", "157"], ["-1", "0", "1"], ["2", "1", "0"]] {
        assert_eq!(names(cells), "load", "{cells:?}");
    }
    for cells in [["60", "61", "63"], ["60", "60", "60"], ["1.5", "2.5", "3.5"], ["10", "12", "14"]] {
        assert_eq!(names(cells), "c1+load", "{cells:?}");
    }
}

#[test]
fn dates_have_further_names() {
    let stooq = "<TICKER>,<DATE>,<TIME>,<CLOSE>\nA,20230102,153000,1\nA,20230102,154500,2\n";
    let (table, _) = read(stooq);
    assert_eq!((dates(&table), table.names().join("+")), (vec!["20230102 153000", "20230102 154500"], "<CLOSE>".into()));
    assert_eq!(table.dates().expect("dates").continued(1).expect("a step"), ["20230102 160000"]);
    for name in ["Open time", "open_time", "ds", "<date>", "DATE"] {
        let (table, _) = read(format!("load,{name}\n1,1704067200000\n2,1704070800000\n"));
        assert_eq!((dates(&table), table.names().join("+")), (vec!["1704067200000", "1704070800000"], "load".into()), "{name}");
    }
}

#[test]
fn the_close_has_the_names_that_exports_give_it() {
    let close = |text: &str| {
        let options = CsvOptions { columns: Columns::CloseOrAll, ..CsvOptions::default() };
        let (tables, _) = read_with(text, &options).expect("tables");
        (dates(&tables[0]).join(", "), tables[0].names().join("+"))
    };
    let meta_trader = "<DATE>\t<TIME>\t<OPEN>\t<CLOSE>\n2024.01.02\t00:00:00\t1.1\t1.2\n2024.01.02\t01:00:00\t1.2\t1.3\n";
    assert_eq!(close(meta_trader), ("2024.01.02 00:00:00, 2024.01.02 01:00:00".into(), "<CLOSE>".into()));
    assert_eq!(close("日期,开盘,收盘\n2024年1月30日,1,2\n2024年1月31日,3,4\n"), ("2024年1月30日, 2024年1月31日".into(), "收盘".into()));
    assert_eq!(close("Date,Close/Last,Volume\n01/30/2024,$1.5,2\n01/31/2024,$2.5,3\n").1, "Close/Last");
    assert_eq!(close("date,closed\n2024-01-30,1\n2024-01-31,2\n").1, "closed");
    let twice = read_with("Close,Close\n1,2\n", &CsvOptions { columns: Columns::CloseOrAll, ..CsvOptions::default() });
    assert_eq!(twice.expect_err("two"), "data.csv: two columns are called \"Close\"; rename one of them");
}

#[test]
fn signs_of_currencies_and_per_cent_are_passed_over() {
    let (table, notes) = read("Date,Close/Last,Change %\n01/30/2024,$184.40,-1.94%\n01/31/2024,$1.5,+0.5 %\n");
    assert_eq!((columns(&table), notes.len()), (vec![vec![184.4, 1.5], vec![-1.94, 0.5]], 0));
    let (table, _) = read("Datum;Kurs\n30.01.2024;12,5 €\n31.01.2024;€13\n");
    assert_eq!(columns(&table), [[12.5, 13.0]]);
    let error = read_with("a,b\n1,2\n2,$3$\n", &CsvOptions::default()).expect_err("no number");
    assert!(error.contains("\"$3$\" is not a number"), "{error}");
}

#[test]
fn parted_thousands_are_read_where_they_are_certain() {
    let (table, _) = read("Date,Price\n01/30/2024,\"4,924.97\"\n01/31/2024,\"999.50\"\n");
    assert_eq!(columns(&table), [[4924.97, 999.5]]);
    let (table, _) = read("Datum;Schluss\n30.01.2024;16.972,34\n31.01.2024;999,50\n");
    assert_eq!(columns(&table), [[16972.34, 999.5]]);
    let error = read_with("Datum;Schluss\n30.01.2024;16.972,5\n31.01.2024;1.025\n", &CsvOptions::default()).expect_err("may be 1025");
    assert!(error.contains("column Schluss: has numbers such as 1.025,5 and such as 1.025"), "{error}");
    let error = read_with("date,price\n2024-01-30,\"1.025,5\"\n2024-01-31,1.017\n", &CsvOptions::default()).expect_err("may be 1017");
    assert!(error.contains("column price: has numbers such as 1.025,5 and such as 1.025"), "{error}");
    let error =
        read_with("Date,Volume\n01/30/2024,\"1,234,567\"\n01/31/2024,\"1,234\"\n", &CsvOptions::default()).expect_err("may be 1.234");
    assert!(error.contains("\"1,234\" is not a number"), "{error}");
}

#[test]
fn points_and_dashes_stand_for_missing_values() {
    let options = CsvOptions { missing: Missing::Drop, ..CsvOptions::default() };
    let (tables, _) =
        read_with("observation_date,DGS10\n2024-01-01,.\n2024-01-02,3.95\n2024-01-03,-\n2024-01-04,3.99\n", &options).expect("tables");
    assert_eq!((dates(&tables[0]), columns(&tables[0])), (vec!["2024-01-02", "2024-01-04"], vec![vec![3.95, 3.99]]));
}

#[test]
fn years_in_order_are_dates_where_there_are_no_others() {
    let options = CsvOptions { id: Some("place"), ..CsvOptions::default() };
    let (tables, _) = read_with("Year,place,load\n1999,a,1\n1999,b,2\n2000,a,3\n2000,b,4\n", &options).expect("tables");
    assert_eq!(dates(&tables[1]), ["1999", "2000"]);
    let (table, notes) = read("load,Year\n3,2001\n2,2000\n1,1999\n");
    assert_eq!((dates(&table), columns(&table)), (vec!["1999", "2000", "2001"], vec![vec![1.0, 2.0, 3.0]]));
    assert_eq!(notes, ["data.csv: the newest rows come first; they are read from the last to the first"]);
    assert_eq!(table.dates().expect("dates").continued(2).expect("a step"), ["2002", "2003"]);
    for content in ["year,day,load\n2000,1,1\n2000,2,2\n", "year,date,load\n2000,2000-01-01,1\n2001,2001-01-01,2\n"] {
        assert_eq!(read(content).0.names()[0], "year", "{content}");
    }
    assert_eq!(read("year\n2000\n2001\n").0.names(), ["year"]);
}

#[test]
fn years_without_a_name_are_dates_and_no_count_of_rows() {
    let (table, notes) = read(",load\n1821,269\n1822,321\n1823,585\n");
    assert_eq!((dates(&table), table.names().join("+")), (vec!["1821", "1822", "1823"], "load".into()));
    assert!(notes.is_empty(), "{notes:?}");
    let gap = read(",load\n1821,269\n1822,321\n1825,585\n");
    assert_eq!(dates(&gap.0), ["1821", "1822", "1825"]);
    for [first, second] in [["1499", "1500"], ["2100", "2101"], ["0", "1"]] {
        assert_eq!(read(format!(",load\n{first},1\n{second},2\n")).0.dates(), None, "{first}");
    }
}

#[test]
fn a_count_is_no_date_where_other_columns_have_dates() {
    for (content, first) in [
        ("YEAR,price,TIME\n1951,5,1\n1952,6,2\n", "1951"),
        ("time,day,price\n1,2024-01-31,5\n2,2024-02-01,6\n", "2024-01-31"),
        ("time,ds,price\n1,20240131,5\n2,20240201,6\n", "20240131"),
        ("year,month,price,time\n1951,1,5,1\n1951,2,6,2\n", "1951-01"),
    ] {
        let (table, _) = read(content);
        assert_eq!(dates(&table)[0], first, "{content}");
        assert!(table.names().iter().any(|name| name.eq_ignore_ascii_case("time")), "{content}");
        let options = CsvOptions { date: Some("time"), ..CsvOptions::default() };
        assert_eq!(dates(&read_with(content, &options).expect("a table").0[0]), ["1", "2"], "{content}");
    }
    for (content, first) in [
        ("time,price\n1,5\n2,6\n", "1"),
        ("year,price,time\n1951,5,1\n1951,6,2\n", "1"),
        ("date,year,price\n200001,2000,5\n200101,2001,6\n", "200001"),
        ("timestamp,day,price\n1704067200,2024-01-01,5\n1704070800,2024-01-01,6\n", "1704067200"),
    ] {
        assert_eq!(dates(&read(content).0)[0], first, "{content}");
    }
}

#[test]
fn a_year_and_its_parts_are_one_date() {
    for (head, rows, text, next) in [
        ("year,quarter", ["1959,3", "1959,4"], "1959Q3", "1960Q1"),
        ("Year,QTR", ["1959.0,3.0", "1959.0,4.0"], "1959Q3", "1960Q1"),
        ("year,quarter", ["1959,Q3", "1959,Q4"], "1959 Q3", "1960 Q1"),
        ("YEAR,MONTH", ["1959,11", "1959,12"], "1959-11", "1960-01"),
        ("year,month,day", ["1959,11,30", "1959,12,31"], "1959-11-30", "1960-01-31"),
        ("year,month", ["1959,Nov", "1959,Dec"], "1959 Nov", "1960 Jan"),
        ("day,month,year", ["30,12,1959", "31,12,1959"], "1959-12-30", "1960-01-01"),
        ("year,month,day,hour", ["1959,12,31,22", "1959,12,31,23"], "1959-12-31 22:00", "1960-01-01 00:00"),
        ("year,month,day,hour", ["1959,12,31,23", "1959,12,31,24"], "1959-12-31 23:00", "1960-01-01 01:00"),
    ] {
        let [first, second] = rows;
        let (table, notes) = read(format!("{head},load\n{first},1\n{second},2\n"));
        assert_eq!((dates(&table)[0], table.names().join("+")), (text, "load".into()), "{head}");
        let dates = table.dates().expect("dates");
        let year = head.split(',').find(|name| name.eq_ignore_ascii_case("year"));
        assert_eq!((Some(dates.name.as_str()), dates.continued(1).expect("a step")), (year, vec![next.into()]), "{head}");
        assert!(notes.is_empty(), "{notes:?}");
    }
    let options = CsvOptions { id: Some("place"), ..CsvOptions::default() };
    let content = "year,month,place,load\n1959,1,a,1\n1959,1,b,2\n1959,2,a,3\n1959,2,b,4\n";
    assert_eq!(dates(&read_with(content, &options).expect("tables").0[1]), ["1959-01", "1959-02"]);
    assert_eq!(read(content.replace("place", "n").replace(['a', 'b'], "1")).0.dates(), None);
    for (rows, line) in [("2000,1,1\n99,2,2\n", 3), ("2000,1,1\n2000,2,2\n2000,13,3\n", 4), ("2000,1,1\n2000,1,2\n", 3)] {
        let content = format!("year,month,load\n{rows}");
        let (table, notes) = read(&content);
        assert_eq!((table.names().join("+"), table.dates()), ("load".into(), None), "{content}");
        let note = "they are no dates, line {} is out of their order".replace("{}", &line.to_string());
        assert_eq!(notes, [format!("data.csv, columns year, month: left out, {note}; name them to read them")]);
        let options = CsvOptions { columns: Columns::Named(&["load"]), ..CsvOptions::default() };
        assert_eq!(read_with(&content, &options).expect("a table").1, [format!("data.csv, columns year, month: {note}")]);
    }
    // a column that is asked for by name stays one
    let options = CsvOptions { columns: Columns::Named(&["month", "load"]), ..CsvOptions::default() };
    let tables = read_with("year,month,load\n1959,1,5\n1959,2,6\n", &options).expect("a table").0;
    assert_eq!((tables[0].names().join("+"), tables[0].dates()), ("month+load".into(), None));
}

#[test]
fn the_closing_price_is_found_in_whatever_case() {
    let options = CsvOptions { columns: Columns::CloseOrAll, ..CsvOptions::default() };
    let names = |content: &str| read_with(content, &options).expect("a table").0[0].names().to_vec();
    assert_eq!(names("date,open,close\n2024-01-01,1,2\n"), ["close"]);
    assert_eq!(names("date,load,OT\n2024-01-01,1,2\n"), ["load", "OT"]);
}

#[test]
fn a_day_and_a_time_are_one_date() {
    let (table, _) = read("Date;Time;Power\n16/12/2006;17:24:00;4.2\n16/12/2006;17:25:00;5.3\n16/12/2006;17:26:00;5.4\n");
    assert_eq!(dates(&table)[1], "16/12/2006 17:25:00");
    assert_eq!(table.names(), ["Power"]);
    assert_eq!(table.dates().expect("dates").continued(1).expect("a step"), ["16/12/2006 17:27:00"]);
}

#[test]
fn a_time_goes_with_a_day_of_whatever_name() {
    for options in [CsvOptions::default(), CsvOptions { date: Some("day"), ..CsvOptions::default() }] {
        let (tables, _) = read_with("day,time,v\n2024-01-01,0:00,1\n2024-01-01,0:30,2\n", &options).expect("a table");
        assert_eq!((dates(&tables[0]), tables[0].names()), (vec!["2024-01-01 0:00", "2024-01-01 0:30"], &["v".to_string()][..]));
    }
}

#[test]
fn a_day_with_its_time_is_taken_before_the_day_alone() {
    let (table, _) = read("date,ts,count\n2024-01-01,2024-01-01 00:00:00,1\n2024-01-01,2024-01-01 01:00:00,2\n");
    assert_eq!((dates(&table)[1], table.names()), ("2024-01-01 01:00:00", &["count".to_string()][..]));
    let (table, _) = read("date,published,count\n2024-01-01,2023-05-01 12:00,1\n2024-01-02,2023-05-01 12:00,2\n");
    assert_eq!(dates(&table), ["2024-01-01", "2024-01-02"]);
}

#[test]
fn a_date_column_may_be_named() {
    let content = "step,when,load\n3,20240131,1\n2,20240201,2\n";
    let options = CsvOptions { date: Some("when"), columns: Columns::Named(&["load"]), ..CsvOptions::default() };
    let table = read_with(content, &options).expect("a table").0.remove(0);
    assert_eq!(table.dates().expect("dates").continued(1).expect("a step"), ["20240202"]);
    let unknown = read_with(content, &CsvOptions { date: Some("day"), ..options }).expect_err("no such column");
    assert!(unknown.contains("no column \"day\"; choose one of: step, when, load"), "{unknown}");
}

#[test]
fn newest_first_is_turned_around() {
    let (table, notes) = read("date,load\n2024-01-03,3\n2024-01-02,2\n2024-01-01,1\n");
    assert_eq!((columns(&table), dates(&table)), (vec![vec![1.0, 2.0, 3.0]], vec!["2024-01-01", "2024-01-02", "2024-01-03"]));
    assert_eq!(notes, ["data.csv: the newest rows come first; they are read from the last to the first"]);
}

#[test]
fn irregular_steps_are_counted_with_the_first_line() {
    let (_, notes) =
        read("date,load\n2024-01-01 00:00,1\n2024-01-01 01:00,2\n2024-01-01 04:00,3\n2024-01-01 05:00,4\n2024-01-01 06:00,4\n");
    assert_eq!(notes, ["data.csv: 1 of 4 steps are not 1 hour, the first before line 4"]);
    let (_, notes) = read("date,load\n2024-01-01,1\n2024-01-02,2\n2024-01-09,3\n2024-01-20,4\n");
    assert_eq!(notes, ["data.csv: the dates have no step that most of them keep"]);
}

#[test]
fn dates_of_digits_alone_are_told_from_counts_by_their_steps() {
    let months: Vec<String> = (2010..2020).flat_map(|year| (1..=12).map(move |month| format!("{year}{month:02}"))).collect();
    let hours: Vec<String> =
        (0..72).map(|hour| format!("202401{:02}{:02}", 30 + hour / 24, hour % 24).replace("20240132", "20240201")).collect();
    let counts: Vec<String> = (200_011..200_050).map(|count| count.to_string()).collect();
    for (dates, next) in [(months, "202001"), (hours, "2024020200"), (counts, "200050")] {
        let (table, notes) = read(format!("date,load\n{}", dates.iter().map(|date| format!("{date},1\n")).collect::<String>()));
        assert_eq!(table.dates().expect("dates").continued(1).expect("a step"), [next]);
        assert!(notes.is_empty(), "{notes:?}");
    }
    let (table, notes) = read("time,load\n1,1\n2,2\n4,3\n7,4\n9,5\n12,6\n");
    assert_eq!(notes, ["data.csv: the dates have no step that most of them keep"]);
    assert!(table.dates().expect("dates").continued(1).is_err());
}

#[test]
fn dates_with_dashes_may_have_the_month_first() {
    let days: Vec<String> = (1..=31).map(|day| format!("01-{day:02}-2023")).collect();
    let hours: Vec<String> = (0..48).map(|hour| format!("{:02}-01-2023 {:02}:30", 12 + hour / 24, hour % 24)).collect();
    let quarters: Vec<String> = (1990..2000).flat_map(|year| [1, 4, 7, 10].map(|month| format!("{month:02}-01-{year}"))).collect();
    let short: Vec<String> = (1..=31).map(|day| format!("01-{day:02}-23")).collect();
    for (dates, next) in [(days, "02-01-2023"), (hours, "14-01-2023 00:30"), (quarters, "01-01-2000"), (short, "02-01-23")] {
        let (table, notes) = read(format!("date,load\n{}", dates.iter().map(|date| format!("{date},1\n")).collect::<String>()));
        assert_eq!(table.dates().expect("dates").continued(1).expect("a step"), [next]);
        assert!(notes.is_empty(), "{notes:?}");
    }
}

#[test]
fn missing_cells_are_refused_dropped_or_filled() {
    let content = "date,a,b\n2024-01-01,NA,1\n2024-01-02,2,2\n2024-01-03,?,\n2024-01-04,null,4\n2024-01-05,5,5\n2024-01-06,,6\n";
    let with = |missing| read_with(content, &CsvOptions { missing, ..CsvOptions::default() });
    let refused = with(Missing::Error).expect_err("missing");
    assert_eq!(refused, "data.csv:2, column a: \"NA\" is no value; fill it in, remove the row or choose --missing");

    let (tables, notes) = with(Missing::Drop).expect("a table");
    assert_eq!((columns(&tables[0]), dates(&tables[0])), (vec![vec![2.0, 5.0]; 2], vec!["2024-01-02", "2024-01-05"]));
    assert_eq!(notes, ["data.csv: 5 cells have no value; 4 rows are left out, the first at line 2"]);

    let (tables, notes) = with(Missing::ForwardFill).expect("a table");
    assert_eq!(columns(&tables[0]), [[2.0, 2.0, 2.0, 5.0, 5.0], [2.0, 2.0, 4.0, 5.0, 6.0]]);
    assert_eq!(notes, ["data.csv: 5 cells have no value; 4 of them are filled; 1 rows are left out, the first at line 2"]);

    let (tables, notes) = with(Missing::Interpolate).expect("a table");
    assert_eq!(columns(&tables[0]), [[2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 4.0, 5.0]]);
    assert_eq!(dates(&tables[0]).last(), Some(&"2024-01-05"));
    assert_eq!(notes, ["data.csv: 5 cells have no value; 3 of them are filled; 2 rows are left out, the first at line 2"]);

    let interpolate = CsvOptions { missing: Missing::Interpolate, ..CsvOptions::default() };
    let (_, notes) = read_with("a\nNA\nNA\n1\n2\n", &interpolate).expect("a table");
    assert_eq!(notes, ["data.csv: 2 cells have no value; 2 rows are left out, the first at line 2"]);
    let (_, notes) = read_with("a\n1\nNA\n3\n", &interpolate).expect("a table");
    assert_eq!(notes, ["data.csv: 1 cells have no value; they are filled"]);

    let nothing = read_with("a,b\n1,NA\n", &CsvOptions { missing: Missing::Drop, ..CsvOptions::default() }).expect_err("no row");
    assert!(nothing.contains("column b: no row has a value"), "{nothing}");
    let apart = read_with("a,b\n1,NA\nNA,1\n", &CsvOptions { missing: Missing::Drop, ..CsvOptions::default() }).expect_err("no row");
    assert!(apart.contains("no row has a value in every column"), "{apart}");
    let infinite = read_with("a,b\n1,inf\n", &CsvOptions { missing: Missing::Drop, ..CsvOptions::default() }).expect_err("infinite");
    assert!(infinite.contains("not finite"), "{infinite}");
}

#[test]
fn a_column_tells_series_apart() {
    let content = "date,store,sales\n2024-01-01,a,1\n2024-01-01,b,10\n2024-01-02,a,2\n2024-01-02,b,20\n2024-01-03,b,30\n";
    let options = CsvOptions { id: Some("store"), ..CsvOptions::default() };
    let (tables, _) = read_with(content, &options).expect("tables");
    assert_eq!(tables.iter().map(columns).collect::<Vec<_>>(), [vec![vec![1.0, 2.0]], vec![vec![10.0, 20.0, 30.0]]]);
    assert!(tables[1].source().to_string().ends_with("data.csv, b"));
    let mixed = read_with(content, &CsvOptions::default()).expect_err("dates twice");
    assert!(mixed.contains("data.csv:3, column date") && mixed.contains("--id"), "{mixed}");
    let twice = read_with("date,store,sales\n2024-01-01,a,1\n2024-01-02,b,1\n2024-01-01,a,2\n", &options).expect_err("a date twice");
    assert!(twice.contains("data.csv:4, column date: the date \"2024-01-01\" is there twice"), "{twice}");
    let share = "rows of series a share a date: tell them apart by one column, such as store and item joined";
    assert!(twice.ends_with(share), "{twice}");
    let sorted = "date,store,item,sales\n2024-01-01,a,1,1\n2024-01-02,a,1,1\n2024-01-03,a,1,1\n2024-01-01,a,2,2\n";
    let again = read_with(sorted, &options).expect_err("a date twice");
    assert_eq!(again, format!("data.csv:5, column date: the date \"2024-01-01\" is there twice; {share}"));
    let back = read_with("date,store,sales\n2024-01-01,a,1\n2024-01-04,a,1\n2024-01-02,a,2\n", &options).expect_err("disorder");
    assert!(back.ends_with("comes after \"2024-01-04\"; sort the rows by date, oldest first"), "{back}");
}

#[test]
fn what_is_so_of_several_series_is_said_once() {
    let options = CsvOptions { id: Some("store"), ..CsvOptions::default() };
    let series = |store: usize| format!("2024-01-03,{store},3\n2024-01-02,{store},2\n2024-01-01,{store},1\n");
    let content = format!("date,store,sales\n{}", (1..=300).map(series).collect::<String>());
    let (_, notes) = read_with(&content, &options).expect("tables");
    let first = "data.csv, 1: the newest rows come first; they are read from the last to the first";
    assert_eq!(notes, [format!("{first}; so it is in 299 more series")]);
    let days = |store: &str, days: &[usize]| days.iter().map(|day| format!("2024-01-{day:02},{store},1\n")).collect::<String>();
    let irregular = [days("a", &[1, 2, 3, 6, 7]), days("b", &[1, 2, 3, 4]), days("c", &[6, 7, 8, 9, 10, 11, 13, 14, 16])].concat();
    let (_, notes) = read_with(format!("date,store,sales\n{irregular}"), &options).expect("tables");
    assert_eq!(notes, ["data.csv, a: 1 of 4 steps are not 1 day, the first before line 5; so it is in 1 more series"]);
    let holes = (0..2000).map(|store| format!("2024-01-01,{store},1\n2024-01-02,{store},\n2024-01-03,{store},1\n")).collect::<String>();
    let drop = CsvOptions { missing: Missing::Drop, ..options };
    let (tables, notes) = read_with(format!("date,store,sales\n{holes}"), &drop).expect("tables");
    assert!(tables.len() == 2000 && tables.iter().all(|table| table.n_row() == 2));
    let first = "data.csv, 0: 1 cells have no value; 1 rows are left out, the first at line 3";
    assert_eq!(notes, [format!("{first}; so it is in 1999 more series")]);
}

#[test]
fn points_that_may_part_thousands_are_noted() {
    let notes = |cells: &str, delimiter: &str| {
        let rows = cells.split(' ').enumerate().map(|(day, cell)| format!("{:02}.01.2023{delimiter}{cell}\n", day + 1));
        read(format!("Datum{delimiter}Umsatz\n{}", rows.collect::<String>())).1
    };
    let note = "data.csv, column Umsatz: the points may part thousands; they are read as decimal points";
    for cells in ["1.025 999 12.480", "0 -1.025", "999 120.000"] {
        assert_eq!(notes(cells, ";"), [note], "{cells}");
        assert!(notes(cells, ",").is_empty(), "{cells}");
    }
    for cells in ["1.025 12.480", "1 2 3", "1.025 999 1.5", "1.025 1000", "0.125 1", "1.025 999 0.125", "1.025 2 1.5e3"] {
        assert!(notes(cells, ";").is_empty(), "{cells}");
    }
}

proptest! {
    #[test]
    fn any_file_gives_tables_or_one_line(cells in prop::collection::vec("[0-9a-zN?.,;|\t\"\n:/-]{0,10}", 0..40), missing in 0usize..4) {
        let missing = [Missing::Error, Missing::Drop, Missing::ForwardFill, Missing::Interpolate][missing];
        match read_with(cells.join(";"), &CsvOptions { missing, ..CsvOptions::default() }) {
            Ok((tables, notes)) => {
                prop_assert!(tables.iter().all(|table| table.n_row() > 0));
                prop_assert!(notes.iter().all(|note| note.lines().count() == 1), "{notes:?}");
            }
            Err(message) => prop_assert_eq!(message.lines().count(), 1, "{:?}", message),
        }
    }
}

/// A reader of CSV ends a row at the return, takes what follows for the beginning of the next, and passes over empty lines.
#[test]
fn a_stream_names_the_line_of_a_cell_whatever_ends_lines() {
    for end in ["\n", "\r\n"] {
        let text = ["", "Close", "1", "", "", "2", "x"].join(end);
        let mut rows = CsvRows::new(text.as_bytes(), Message::from("rows"), &["Close"], None, Missing::Error).expect("a header");
        assert_eq!(rows.next_row().expect("a row"), Some(vec![1.0]));
        assert_eq!(rows.next_row().expect("a row"), Some(vec![2.0]));
        let error = rows.next_row().expect_err("no number").to_string();
        assert!(error.contains("rows:7"), "{end:?}: {error}");
    }
}

#[test]
fn a_stream_finds_names_without_case_and_brackets() {
    let text = "<CLOSE>;<VOL>\n1;5\n";
    let mut rows = CsvRows::new(text.as_bytes(), Message::from("rows"), &["Vol", "Close"], None, Missing::Error).expect("a header");
    assert_eq!(rows.next_row().expect("a row"), Some(vec![5.0, 1.0]));
}

#[test]
fn a_stream_takes_the_time_from_the_parts_of_a_date() {
    let text = "No,year,month,day,hour,load\n1,2024,1,31,6,5\n2,2024,1,31,12,6\n2,2024,1,31,12,7\n";
    let columns: Vec<&str> = std::iter::once("load").chain(CALENDAR).collect();
    let mut rows = CsvRows::new(text.as_bytes(), Message::from("rows"), &columns, None, Missing::Error).expect("a header");
    let mut next = || rows.next_row().map(|row| row.map(|row| [row[0], row[1].round(), row[2].round()]));
    assert_eq!(next().expect("a row"), Some([5.0, 1.0, 0.0]));
    assert_eq!(next().expect("a row"), Some([6.0, 0.0, -1.0]));
    assert!(next().expect_err("twice").to_string().contains("the date \"2024-01-31 12:00\" is there twice"));
}

#[test]
fn a_stream_drops_or_fills_rows_without_a_value() {
    let text = "Close,Volume\n,5\n1,NA\n2,6\nnull,\n3,7\n";
    let rows = |missing| -> Vec<Vec<f64>> {
        let rows = CsvRows::new(text.as_bytes(), Message::from("rows"), &["Close", "Volume"], None, missing);
        let mut rows = rows.expect("a header");
        std::iter::from_fn(|| rows.next_row().expect("a row")).collect()
    };
    let as_text = |rows: Vec<Vec<f64>>| format!("{rows:?}");
    assert_eq!(as_text(rows(Missing::Drop)), "[[NaN, 5.0], [1.0, NaN], [2.0, 6.0], [NaN, NaN], [3.0, 7.0]]");
    assert_eq!(as_text(rows(Missing::ForwardFill)), "[[NaN, 5.0], [1.0, 5.0], [2.0, 6.0], [2.0, 6.0], [3.0, 7.0]]");
    let new = |missing| CsvRows::new(text.as_bytes(), Message::from("rows"), &["Close", "Volume"], None, missing);
    let error = new(Missing::Error).expect("a header").next_row().expect_err("an empty cell").to_string();
    assert!(error.contains("rows:2") && error.contains("--missing"), "{error}");
    let error = new(Missing::Interpolate).err().expect("rows to come").to_string();
    assert!(error.contains("interpolate"), "{error}");
}
