// How drop-in files are laid over the main one, before any key is looked at.

enum Merge {
    /// Lays `over` on `base`: mappings merge key by key; `tunnels` and `devices` merge by
    /// `name`; `destinations` of a tunnel append; everything else is replaced. Each value
    /// keeps the position that it has in its own file.
    static func merge(_ base: Value, with over: Value, path: [String] = []) -> Value {
        switch (base.content, over.content) {
        // An empty mapping says nothing: `admin:` with every line behind it commented out.
        case (.mapping, .null): return base
        case (.mapping(let old), .mapping(let new)):
            var merged = base
            merged.content = .mapping(merge(old, with: new, path: path))
            return merged
        case (.list(let old), .list(let new)):
            var merged = base
            switch path {
            case ["tunnels"], ["devices"]:
                merged.content = .list(mergeByName(old, with: new, path: path))
            case ["tunnels", "*", "destinations"]: merged.content = .list(old + new)
            default: return over
            }
            return merged
        default: return over
        }
    }

    private static func merge(
        _ base: [Value.Entry], with over: [Value.Entry], path: [String]
    ) -> [Value.Entry] {
        var merged = base
        for entry in over {
            guard let index = merged.firstIndex(where: { $0.key == entry.key }) else {
                merged.append(entry)
                continue
            }
            let value = merge(merged[index].value, with: entry.value, path: path + [entry.key])
            // Where the value comes from is where its key is looked for.
            if value.position == entry.value.position { merged[index].position = entry.position }
            merged[index].value = value
        }
        return merged
    }

    private static func mergeByName(
        _ base: [Value], with over: [Value], path: [String]
    ) -> [Value] {
        var merged = base
        var indices: [String: Int] = [:]
        for (index, item) in base.enumerated() {
            if let name = item.text(of: "name"), indices[name] == nil { indices[name] = index }
        }
        for item in over {
            if let name = item.text(of: "name"), let index = indices[name] {
                merged[index] = merge(merged[index], with: item, path: path + ["*"])
            } else {
                if let name = item.text(of: "name") { indices[name] = merged.count }
                merged.append(item)
            }
        }
        return merged
    }

    /// Reports a name that one file gives to two of its `tunnels` or of its `devices`: between
    /// files it would mean a merge, within one it is a slip.
    static func reportEqualNames(in file: Value, report: Report) {
        guard case .mapping(let entries) = file.content else { return }
        for entry in entries where ["tunnels", "devices"].contains(entry.key) {
            guard case .list(let items) = entry.value.content else { continue }
            var first: [String: Position] = [:]
            for (index, item) in items.enumerated() {
                guard case .mapping(let keys) = item.content, let name = item.text(of: "name"),
                    let key = keys.first(where: { $0.key == "name" })
                else { continue }
                if let earlier = first[name] {
                    report.error(
                        key.value.position,
                        "\(entry.key)[\(index)].name: \"\(name)\" is the name of the one at "
                            + "\(report.place(earlier)) too; choose another")
                } else {
                    first[name] = key.value.position
                }
            }
        }
    }
}
