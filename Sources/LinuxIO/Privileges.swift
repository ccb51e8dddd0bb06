// What a process may do beyond any user's.

import CLinux

public enum Privileges {
    /// Gives up all capabilities, and whatever a program that this process executes could bring
    /// (no_new_privs(2), capabilities(7)). To be called before the process has a second thread.
    public static func giveUp() throws(SystemError) {
        try checkNegative("prctl(PR_SET_NO_NEW_PRIVS)", "engine", clinux_no_new_privileges())
        try checkNegative("capset", "engine", clinux_drop_capabilities())
    }
}
