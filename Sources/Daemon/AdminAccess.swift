// Who may ask what of the admin endpoint: everything on the unix socket, whose file has a mode; on TCP,
// where anybody may connect, only what tells little and changes nothing.

import IP
import NIOHTTP1
import Settings

struct AdminAccess: Sendable {
    struct Refusal: Equatable {
        let status: HTTPResponseStatus
        let text: String
    }

    /// nil: the unix socket.
    let listen: Configuration.Listen?
    /// `admin.listenStatus`.
    let showsStatus: Bool

    private static let open = ["/metrics", "/healthz", "/readyz"]

    /// Why a request is not answered; nil when it is.
    func refusal(_ method: HTTPMethod, _ path: String, _ headers: HTTPHeaders) -> Refusal? {
        // Browsers send it with whatever a page posts, and with what it asks of another site.
        if headers.contains(name: "Origin") {
            return Refusal(status: .forbidden, text: "requests of web pages are not answered\n")
        }
        guard let listen else { return nil }
        let isStatus = showsStatus && (path == "/status" || path == "/")
        guard Self.open.contains(path) || isStatus else {
            let pages = (Self.open + (showsStatus ? ["/status"] : [])).joined(separator: " ")
            return Refusal(
                status: .forbidden,
                text: "TCP serves \(pages); the rest is on the unix socket, for the verbs of shuck\n")
        }
        guard method == .GET else { return Refusal(status: .methodNotAllowed, text: "GET\n") }
        // A page whose name was made to lead here (DNS rebinding) is of the same origin, but its name is
        // in the request.
        if isStatus, !isOwn(headers.first(name: "Host") ?? "", listen) {
            return Refusal(
                status: .forbidden, text: "ask for /status by address, or as admin.listen has it\n")
        }
        return nil
    }

    private func isOwn(_ host: String, _ listen: Configuration.Listen) -> Bool {
        var name = Substring(host)
        if let colon = name.lastIndex(of: ":"), !name.hasSuffix("]") { name = name[..<colon] }
        if name.hasPrefix("["), name.hasSuffix("]") { name = name.dropFirst().dropLast() }
        return name.lowercased() == "localhost" || name.lowercased() == listen.host.lowercased()
            || Address(String(name)) != nil
    }
}
