// Part of Loader (Loader.swift): Section, the known keys of a mapping, in the order of the file.

struct Section {
    var path: String
    var position: Position
    let loader: Loader
    var entries: [Value.Entry] = []

    func path(of key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    subscript(key: String) -> Field? {
        entries.first { $0.key == key }.map {
            Field(path: path(of: key), value: $0.value, loader: loader, siblings: self)
        }
    }
}
