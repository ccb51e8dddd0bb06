// The admin endpoint: HTTP on a unix socket and, where asked, on TCP. Never near a worker.

import Foundation
import LinuxIO
import NIOCore
import NIOHTTP1
import NIOPosix
import Routing
import Settings
import Synchronization

/// What the endpoint asks of the daemon.
final class AdminState: Sendable {
    /// nil before the first assignment was published.
    let snapshot = Mutex<Snapshot?>(nil)
    private let reloads = Mutex<[EventLoopPromise<ReloadOutcome>]>([])
    /// The mirror of the routes is the control thread's alone: it answers.
    private let inquiries = Mutex<[(RouteInquiry, EventLoopPromise<RouteAnswer?>)]>([])
    let wakeup: Wakeup

    init() throws(SystemError) { wakeup = try Wakeup() }

    /// Asks the control thread to reload.
    func requestReload(on loop: EventLoop) -> EventLoopFuture<ReloadOutcome> {
        let promise = loop.makePromise(of: ReloadOutcome.self)
        reloads.withLock { $0.append(promise) }
        wakeup.signal()
        return promise.futureResult
    }

    /// Asks the control thread why; nil when the interface is not configured.
    func ask(_ inquiry: RouteInquiry, on loop: EventLoop) -> EventLoopFuture<RouteAnswer?> {
        let promise = loop.makePromise(of: RouteAnswer?.self)
        inquiries.withLock { $0.append((inquiry, promise)) }
        wakeup.signal()
        return promise.futureResult
    }

    func takeInquiries() -> [(RouteInquiry, EventLoopPromise<RouteAnswer?>)] {
        inquiries.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
    }

    func takeReloads() -> [EventLoopPromise<ReloadOutcome>] {
        reloads.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
    }
}

final class AdminServer {
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private var channels: [Channel] = []
    private let socketPath: String

    init(_ admin: Configuration.Admin, state: AdminState) throws {
        socketPath = admin.socket
        let bootstrap = ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(AdminHandler(state))
                }
            }
        do {
            channels.append(try bootstrap.bind(unixDomainSocketPath: admin.socket).wait())
        } catch {
            throw HostProblem(
                description: "admin.socket \(admin.socket): \(error); choose another path")
        }
        guard let listen = admin.listen else { return }
        do {
            channels.append(
                try bootstrap.bind(host: listen.host, port: Int(listen.port)).wait())
        } catch {
            throw HostProblem(
                description: "admin.listen \(listen.text): \(error); choose another address")
        }
    }

    func stop() {
        for channel in channels { try? channel.close().wait() }
        try? group.syncShutdownGracefully()
        unlink(socketPath)
    }
}

private final class AdminHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let state: AdminState
    private var request: HTTPRequestHead?

    init(_ state: AdminState) { self.state = state }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): request = head
        case .body: break
        case .end:
            guard let request else { return }
            self.request = nil
            answer(request, context)
        }
    }

    private func answer(_ request: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let path = request.uri.split(separator: "?", maxSplits: 1).first.map(String.init) ?? "/"
        switch (request.method, path) {
        case (.GET, "/metrics"):
            withSnapshot(context) {
                (.ok, "text/plain; version=0.0.4; charset=utf-8", MetricsPage.text($0))
            }
        case (.GET, "/status"):
            withSnapshot(context) { snapshot in
                let data = try? Self.encoder.encode(snapshot.report())
                return (.ok, "application/json", String(decoding: data ?? Data(), as: UTF8.self) + "\n")
            }
        case (.GET, "/config"):
            withSnapshot(context) { (.ok, "application/yaml", $0.configuration.yaml) }
        case (.GET, "/healthz"): withSnapshot(context) { Self.checks($0.unhealthiness()) }
        case (.GET, "/readyz"): withSnapshot(context) { Self.checks($0.unreadiness()) }
        case (.GET, "/why"): why(request.uri, context)
        case (.POST, "/reload"):
            let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            state.requestReload(on: context.eventLoop).whenSuccess { outcome in
                let (handler, context) = bound.value
                handler.send(
                    context, outcome.isApplied ? .ok : .conflict, "text/plain",
                    outcome.lines.map { $0 + "\n" }.joined())
            }
        case (_, "/metrics"), (_, "/status"), (_, "/config"), (_, "/healthz"), (_, "/readyz"),
            (_, "/why"), (_, "/reload"):
            send(context, .methodNotAllowed, "text/plain", "GET; POST for /reload\n")
        default:
            send(
                context, .notFound, "text/plain",
                "there are /metrics /healthz /readyz /status /config /why and, by POST, /reload\n")
        }
    }

    /// `/why?source=ADDRESS[&interface=NAME][&destination=ADDRESS]`.
    private func why(_ uri: String, _ context: ChannelHandlerContext) {
        let items = URLComponents(string: uri)?.queryItems ?? []
        func value(_ name: String) -> String? { items.first { $0.name == name }?.value }
        let destination = value("destination").map { Address($0) }
        guard let source = value("source").flatMap({ Address($0) }),
            destination.map({ $0?.isIPv4 == source.isIPv4 }) ?? true
        else {
            return send(
                context, .badRequest, "text/plain",
                "source is an address, and destination one of its family\n")
        }
        let inquiry = RouteInquiry(
            source: source, destination: destination ?? nil, interface: value("interface"))
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        state.ask(inquiry, on: context.eventLoop).whenSuccess { answer in
            let (handler, context) = bound.value
            guard let answer, let data = try? Self.encoder.encode(answer) else {
                return handler.send(
                    context, .notFound, "text/plain", "that interface is not configured\n")
            }
            handler.send(
                context, .ok, "application/json", String(decoding: data, as: UTF8.self) + "\n")
        }
    }

    private static var encoder: JSONEncoder {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return encoder
    }

    private static func checks(_ problems: [String]) -> (HTTPResponseStatus, String, String) {
        problems.isEmpty
            ? (.ok, "text/plain", "ok\n")
            : (.serviceUnavailable, "text/plain", problems.map { $0 + "\n" }.joined())
    }

    /// Renders a copy, outside the lock: the control thread needs it to publish.
    private func withSnapshot(
        _ context: ChannelHandlerContext,
        _ body: (Snapshot) -> (HTTPResponseStatus, String, String)
    ) {
        let answer = state.snapshot.withLock(\.self).map(body)
        let (status, type, text) = answer ?? (.serviceUnavailable, "text/plain", "starting\n")
        send(context, status, type, text)
    }

    private func send(
        _ context: ChannelHandlerContext, _ status: HTTPResponseStatus, _ type: String,
        _ text: String
    ) {
        let body = context.channel.allocator.buffer(string: text)
        let headers: HTTPHeaders = [
            "Content-Type": type, "Content-Length": "\(body.readableBytes)", "Connection": "close",
        ]
        let head = HTTPResponseHead(version: .http1_1, status: status, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
            channel.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
