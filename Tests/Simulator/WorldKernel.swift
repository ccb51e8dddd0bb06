// Part of World (World.swift): the kernel's side. Frames arrive, devices answer, the clock goes on.

import Forwarding

extension World {
    /// Frames between two batches.
    mutating func arrive() {
        pass(UInt64(1_000 + schedule.below(100_000)))
        let dice = schedule.below(100)
        var count = dice < 60 ? 1 + schedule.below(48) : dice < 90 ? 64 : schedule.below(4)
        if strikes(400) { count = (rings[0].mask + 64) * workerCount }
        arrive(count)
    }

    /// What happens between two steps of a worker: frames come in, routes change, others work.
    /// - Returns: false: the process died meanwhile.
    @inline(__always)
    mutating func meanwhile() -> Bool {
        if schedule.chance(8) { arrive(1 + schedule.below(6)) }
        return workerCount == 1 || !schedule.chance(12) || othersWork()
    }

    @inline(never)
    private mutating func othersWork() -> Bool {
        let (own, deaths) = (worker, summary.crashes)
        if acts(20) { changeRoutes() }
        worker = workers + schedule.below(workerCount)
        if !worker.pointee.isBusy {
            summary.nested &+= 1
            pass(UInt64(schedule.below(20_000)))
            turn()
        }
        worker = own
        return summary.crashes == deaths && finding == nil
    }

    mutating func arrive(_ count: Int) {
        var arrived = 0
        var (last, lastRing) = (0, 0)
        for _ in 0..<count {
            guard traffic.count < scenario.frames else { break }
            let draft = traffic.next()
            let frame = traffic.count
            if !scenario.absentFrames.isEmpty && scenario.absentFrames.contains(frame) { continue }
            let template = templates + draft.template
            let ring = template.pointee.interface
            let rings = workers[draft.worker % workerCount].rings
            let hasRoom = template.pointee.count <= Ring.fitting || !schedule.chance(50)
            if rings[ring].fill(template, draft.template, draft, frame: frame, hasRoom: hasRoom) {
                (last, lastRing, arrived) = (frame, ring, arrived &+ 1)
            } else {
                summary.overflows &+= 1
                note(.overflow, ring, frame)
            }
        }
        if arrived > 0 { note(.arrive, lastRing, last, arrived) }
    }

    // MARK: Devices

    /// What write(2) says of an operation, and what follows from it.
    @inline(__always)
    mutating func write(_ place: Int) -> Int32 {
        let operation = batch.operations[place]
        let index = Int(operation.index)
        guard index < deviceCount else {
            fail("operation \(place) is for device \(index)")
            return 0
        }
        let device = devices + index
        if device.pointee.mood == .fine && strikes(2000) { changeMood(index) }
        var result = operation.length
        if device.pointee.mood != .fine { result = answer(operation, device) }
        if result == operation.length {
            deliver(place)
        } else {
            summary.failedWrites &+= 1
            noteRefusal(operation, result)
        }
        note(.write, place, index << 16 | Int(operation.frame), Int(result))
        return result
    }

    @inline(never)
    private mutating func changeMood(_ index: Int) {
        // What follows from a refused joined packet is the most intricate.
        devices[index].mood =
            faults.chance(3)
            ? .noSegments : Mood(rawValue: UInt8(1 + faults.below(Mood.allCases.count - 1)))!
        devices[index].left = faults.chance(2) ? 1 : 1 + faults.below(200)
        note(.mood, index, Int(devices[index].mood.rawValue), devices[index].left)
    }

    @inline(never)
    private mutating func answer(_ operation: Batch.Operation, _ device: UnsafeMutablePointer<Device>)
        -> Int32
    {
        let mood = device.pointee.mood
        device.pointee.left &-= 1
        // What is gone stays so until a reload.
        if device.pointee.left <= 0 && mood != .gone { device.pointee.mood = .fine }
        switch mood {
        case .fine: return operation.length
        case .full: return -11
        case .noMemory: return -12
        case .noBuffers: return -105
        case .down: return -5
        case .gone: return -77
        case .short: return operation.length / 2
        case .noSegments:
            let header =
                operation.pieceCount == 0 ? operation.memory : operation.pieces[0].base
            let type = header.load(fromByteOffset: 1, as: UInt8.self)
            return type == VirtioHeader.gsoNone ? operation.length : -22
        }
    }

    private mutating func noteRefusal(_ operation: Batch.Operation, _ result: Int32) {
        if !operation.joined.isEmpty && result == -22 {
            worker.pointee.refusals[Int(operation.index)].refusedNow.insert(operation.joined)
            summary.refusedJoins &+= 1
        }
    }
}
