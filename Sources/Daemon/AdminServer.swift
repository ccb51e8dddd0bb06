// The admin endpoint: HTTP on a unix socket and, where asked, on TCP. Never near a worker.

import Foundation
import IP
import LinuxIO
import NIOCore
import NIOHTTP1
import NIOPosix
import Settings
import Synchronization

final class AdminServer {
    /// What a connection may cost.
    struct Bounds: Sendable {
        /// Connections of each listener at a time.
        var connections = 64
        /// Until the whole request has come.
        var request = TimeAmount.seconds(Timing.requestSeconds)
        /// Until the client has taken the whole answer.
        var answer = TimeAmount.seconds(Timing.answerSeconds)
        /// Bytes of a request.
        var bytes = 16 << 10
    }

    /// One for the process, which nothing has to shut down.
    private let group = MultiThreadedEventLoopGroup.singleton
    private(set) var channels: [Channel] = []

    /// Starts its threads, which needs more of the kernel than answering does.
    static func prepare() { _ = MultiThreadedEventLoopGroup.singleton.next() }

    /// - Parameters:
    ///   - socket: the admin socket, which listens; stays open when this stops.
    ///   - port: that of `admin.listen`, likewise; nil: it is not asked for.
    init(
        _ admin: Configuration.Admin, state: AdminState, socket: Descriptor, port: Descriptor? = nil,
        bounds: Bounds = Bounds()
    ) throws {
        // Accepting backs off for a second when there are no descriptors (NIO's AcceptBackoffHandler).
        func bootstrap(_ access: AdminAccess) -> ServerBootstrap {
            let connections = Connections(limit: bounds.connections)
            return ServerBootstrap(group: group)
                .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    connections.add(channel)
                    return channel.eventLoop.makeCompletedFuture {
                        let pipeline = channel.pipeline.syncOperations
                        try pipeline.addHandler(RequestLimit(bounds.bytes))
                        try pipeline.configureHTTPServerPipeline()
                        try pipeline.addHandler(AdminHandler(state, access, bounds))
                    }
                }
        }
        let local = AdminAccess(listen: nil, showsStatus: true)
        channels.append(try bootstrap(local).withBoundSocket(try Self.duplicate(socket)).wait())
        guard let listen = admin.listen, let port else { return }
        let remote = AdminAccess(listen: listen, showsStatus: admin.listenStatus)
        channels.append(try bootstrap(remote).withBoundSocket(try Self.duplicate(port)).wait())
    }

    /// The event loop closes its own.
    private static func duplicate(_ socket: Descriptor) throws -> Int32 {
        let number = fcntl(socket.number, F_DUPFD_CLOEXEC, 0)
        guard number >= 0 else { throw SystemError("dup", "admin", errno: errno) }
        return number
    }

    func stop() {
        for channel in channels { try? channel.close().wait() }
    }
}

/// The connections of a listener, the oldest first. One more than there may be ends the oldest: whoever
/// holds connections without asking keeps nobody else from an answer.
private final class Connections: Sendable {
    private let limit: Int
    private let open = Mutex<[Channel]>([])

    init(limit: Int) { self.limit = limit }

    func add(_ channel: Channel) {
        let oldest = open.withLock { open in
            open.append(channel)
            return open.count > limit ? open.removeFirst() : nil
        }
        oldest?.close(promise: nil)
        channel.closeFuture.whenComplete { [self] _ in
            open.withLock { $0.removeAll { $0 === channel } }
        }
    }
}

/// Ends a connection that sends more than a request can be.
private final class RequestLimit: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var left: Int

    init(_ bytes: Int) { left = bytes }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard left >= 0 else { return }
        left -= unwrapInboundIn(data).readableBytes
        if left >= 0 { return context.fireChannelRead(data) }
        let answer = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        let channel = context.channel
        context.writeAndFlush(wrapOutboundOut(channel.allocator.buffer(string: answer)))
            .whenComplete { _ in channel.close(promise: nil) }
    }
}

private final class AdminHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let state: AdminState
    private let access: AdminAccess
    private let bounds: AdminServer.Bounds
    private var request: HTTPRequestHead?
    /// Ends the connection when its request or its answer takes too long.
    private var patience: Scheduled<Void>?
    /// A connection is for one request.
    private var isAsked = false
    /// nil: no capture was asked for.
    private var stream: CaptureStream?

    init(_ state: AdminState, _ access: AdminAccess, _ bounds: AdminServer.Bounds) {
        self.state = state
        self.access = access
        self.bounds = bounds
    }

    func handlerAdded(context: ChannelHandlerContext) { close(context.channel, after: bounds.request) }

    func handlerRemoved(context: ChannelHandlerContext) {
        patience?.cancel()
        stream?.stop()
    }

    private func close(_ channel: Channel, after time: TimeAmount) {
        patience?.cancel()
        patience = channel.eventLoop.scheduleTask(in: time) { channel.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): request = head
        case .body: break
        case .end:
            guard let request, !isAsked else { return }
            isAsked = true
            // The control thread takes what time it needs.
            patience?.cancel()
            answer(request, context)
        }
    }

    private struct Answer {
        let status: HTTPResponseStatus
        var type = "text/plain"
        let text: String

        static func json(_ value: some Encodable) -> Answer {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            let text = String(decoding: (try? encoder.encode(value)) ?? Data(), as: UTF8.self)
            return Answer(status: .ok, type: "application/json", text: text + "\n")
        }

        static func lines(_ lines: [String], status: HTTPResponseStatus) -> Answer {
            Answer(status: status, text: lines.map { $0 + "\n" }.joined())
        }

        static func checks(_ problems: [String]) -> Answer {
            problems.isEmpty
                ? .lines(["ok"], status: .ok) : .lines(problems, status: .serviceUnavailable)
        }
    }

    private static let pages = ["/metrics", "/healthz", "/readyz", "/status", "/config", "/why", "/capture"]

    private func answer(_ request: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let path = request.uri.split(separator: "?", maxSplits: 1).first.map(String.init) ?? "/"
        if let refusal = access.refusal(request.method, path, request.headers) {
            return send(context, Answer(status: refusal.status, text: refusal.text))
        }
        switch (request.method, path) {
        case (.GET, "/metrics"):
            show(context) {
                Answer(status: .ok, type: "text/plain; version=0.0.4; charset=utf-8", text: $0.scrape().text)
            }
        case (.GET, "/status"): show(context) { .json($0.report()) }
        case (.GET, "/config"):
            show(context) { Answer(status: .ok, type: "application/yaml", text: $0.configuration.yaml) }
        case (.GET, "/healthz"): show(context) { .checks($0.view().unhealthiness) }
        case (.GET, "/readyz"): show(context) { .checks($0.view().unreadiness) }
        case (.GET, "/why"): why(request.uri, context)
        case (.GET, "/capture"): capture(request.uri, context)
        case (.POST, "/reload"):
            ask(context, AdminState.Request.reload) {
                .lines($0.lines, status: $0.isApplied ? .ok : .conflict)
            }
        case (_, let page) where page == "/reload" || Self.pages.contains(page):
            send(context, .lines(["GET; POST for /reload"], status: .methodNotAllowed))
        default:
            let pages = Self.pages.joined(separator: " ")
            send(
                context,
                .lines(["there are \(pages) and, by POST, /reload"], status: .notFound))
        }
    }

    /// Serves a capture until its reader goes.
    private func capture(_ uri: String, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        AdminPeer.user(of: context.channel).whenComplete { result in
            let (handler, context) = bound.value
            handler.capture(uri, user: try? result.get(), context)
        }
    }

    private func capture(_ uri: String, user: UInt32?, _ context: ChannelHandlerContext) {
        guard let snapshot = state.snapshot.withLock(\.self) else {
            return send(context, .lines(["starting"], status: .serviceUnavailable))
        }
        if let refusal = AdminPeer.captureRefusal(user, snapshot.configuration.admin) {
            return send(context, .lines([refusal], status: .forbidden))
        }
        do {
            guard let feed = try CaptureFeed(CaptureQuery(uri), snapshot) else {
                return send(context, .lines(["another capture runs"], status: .conflict))
            }
            stream = CaptureStream(feed, state, patience: bounds.answer)
            let head = HTTPResponseHead(
                version: .http1_1, status: .ok,
                headers: ["Content-Type": "application/x-pcapng", "Connection": "close"])
            context.writeAndFlush(wrapOutboundOut(.head(head)), promise: nil)
            stream?.begin(context.channel, snapshot)
        } catch let problem as HostProblem {
            send(context, .lines([problem.description], status: .badRequest))
        } catch {
            send(context, .lines(["\(error)"], status: .internalServerError))
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
            let text = "source is an address, and destination one of its family"
            return send(context, .lines([text], status: .badRequest))
        }
        let inquiry = RouteAnswer.Inquiry(
            source: source, destination: destination ?? nil, interface: value("interface"))
        ask(context, { .why(inquiry, $0) }) { answer in
            answer.map { .json($0) } ?? .lines(["that interface is not configured"], status: .notFound)
        }
    }

    /// Asks the control thread, and sends what `answer` makes of its result.
    private func ask<R: Sendable>(
        _ context: ChannelHandlerContext, _ make: (EventLoopPromise<R>) -> AdminState.Request,
        _ answer: @escaping @Sendable (R) -> Answer
    ) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        state.request(on: context.eventLoop, make).whenSuccess { result in
            let (handler, context) = bound.value
            handler.send(context, answer(result))
        }
    }

    /// Renders a copy, outside the lock: the control thread needs it to publish.
    private func show(_ context: ChannelHandlerContext, _ body: (Snapshot) -> Answer) {
        let answer = state.snapshot.withLock(\.self).map(body)
        send(context, answer ?? .lines(["starting"], status: .serviceUnavailable))
    }

    private func send(_ context: ChannelHandlerContext, _ answer: Answer) {
        let body = context.channel.allocator.buffer(string: answer.text)
        let headers: HTTPHeaders = [
            "Content-Type": answer.type, "Content-Length": "\(body.readableBytes)", "Connection": "close",
        ]
        let head = HTTPResponseHead(version: .http1_1, status: answer.status, headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        let channel = context.channel
        close(channel, after: bounds.answer)
        context.writeAndFlush(wrapOutboundOut(.end(nil))).whenComplete { _ in
            channel.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
