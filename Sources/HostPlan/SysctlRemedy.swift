// Commands that make a setting last.

enum SysctlRemedy {
    /// A file that few others come behind.
    private static let file = "/etc/sysctl.d/99-zz-shuck.conf"

    /// - Parameters:
    ///   - path: below /proc/sys.
    ///   - place: `FILE:LINE` that sets another value.
    static func keep(_ path: String, _ value: Int, at place: String) -> String {
        let rival = place.prefix { $0 != ":" }
        let name = rival.split(separator: "/").last.map(String.init) ?? ""
        // The last file counts; a file that comes behind ours is changed itself.
        let target = name > "99-zz-shuck.conf" ? String(rival) : file
        return "echo '\(Examination.name(path)) = \(value)' >>\(target)"
    }
}
