// Why a verb could not give what it was asked for, and the exit code for it.

import Foundation

struct Failure: Error {
    enum Code: Int32 {
        case badAnswer = 1
        /// Not permitted or not supported here.
        case notHere = 3
    }

    var code = Code.badAnswer
    /// One sentence.
    var message: String
}

/// The text of an error number.
func systemMessage(_ number: Int32 = errno) -> String { String(cString: strerror(number)) }
