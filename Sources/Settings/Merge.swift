// Lays drop-in files over the main one, before any key is looked at.

enum Merge {
    /// Lays `over` on `base`: mappings merge key by key; `tunnels` and `devices` merge by `name`;
    /// `destinations` of a tunnel append; everything else is replaced. Each value keeps the position that
    /// it has in its own file.
    static func merge(_ base: Value, with over: Value, path: [String] = []) -> Value {
        var merged = base
        switch (base.content, over.content) {
        // An empty mapping says nothing: `admin:` with every line below it commented out.
        case (.mapping, .null): break
        case (.mapping(var entries), .mapping(let new)):
            for entry in new {
                guard let index = entries.firstIndex(where: { $0.key == entry.key }) else {
                    entries.append(entry)
                    continue
                }
                let value = merge(entries[index].value, with: entry.value, path: path + [entry.key])
                // A message about a missing value points at the key of the file that wrote it last.
                if value.position == entry.value.position { entries[index].position = entry.position }
                entries[index].value = value
            }
            merged.content = .mapping(entries)
        case (.list(let items), .list(let new)) where path == ["tunnels"] || path == ["devices"]:
            merged.content = .list(mergeByName(items, with: new, path: path))
        case (.list(let items), .list(let new)) where path == ["tunnels", "*", "destinations"]:
            merged.content = .list(items + new)
        default: return over
        }
        return merged
    }

    /// Merges each item of `base` with one of `over` at most. A name that one file gives twice so stays
    /// twice: between files an equal name is a merge, within one it is a slip, which is reported later.
    private static func mergeByName(_ base: [Value], with over: [Value], path: [String]) -> [Value] {
        var merged = base
        var indices = Dictionary(
            base.enumerated().compactMap { index, item in item.text(of: "name").map { ($0, index) } },
            uniquingKeysWith: { first, _ in first })
        for item in over {
            if let index = item.text(of: "name").flatMap({ indices.removeValue(forKey: $0) }) {
                merged[index] = merge(merged[index], with: item, path: path + ["*"])
            } else {
                merged.append(item)
            }
        }
        return merged
    }
}
