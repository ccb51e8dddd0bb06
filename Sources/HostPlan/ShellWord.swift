// A text as one word of sh(1), for the commands that findings print.

extension String {
    /// Quoted where the shell would split or expand the text.
    public var shellWord: String {
        let isPlain = unicodeScalars.allSatisfy { scalar in
            scalar.properties.isAlphabetic || scalar.properties.numericType != nil
                || "/._-+:@%,=".contains("\(scalar)")
        }
        if isPlain && !isEmpty { return self }
        return "'" + split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}
