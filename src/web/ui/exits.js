// What exit codes and signals mean that every shell and every Linux knows.

const CODES = {
  126: "The program was found, but may not be executed.",
  127: "The program was not found: it is not in the vessel’s PATH, or a script calls one that is not there.",
};
// signal(7), on all machines that this server is made for.
const SIGNALS = { 1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
  9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT",
  17: "SIGCHLD", 19: "SIGSTOP", 24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS" };
const HINTS = { SIGKILL: ", which the kernel also sends when memory runs out", SIGSEGV: ": it used memory that is not its own",
  SIGPIPE: ": the reader of its output had gone", SIGABRT: ": it gave up by itself", SIGXCPU: ": it used up its processor time",
  SIGXFSZ: ": a file became too large", SIGSYS: ": it made a system call that is not allowed" };

const ofSignal = (number, how) => {
  const name = SIGNALS[number];
  return name ? `${how} ${name} (signal ${number})${HINTS[name] ?? ""}.` : `${how} signal ${number}.`;
};

// A sentence about the end of a vessel; null when there is nothing that its own reason does not say.
export function exitMeaning({ exit_code, signal }) {
  if (signal != null) return ofSignal(signal, "It was ended by");
  if (CODES[exit_code]) return CODES[exit_code];
  if (exit_code > 128 && exit_code - 128 in SIGNALS) return ofSignal(exit_code - 128, "128 and more is how a shell says that a program of it was ended by");
  return null;
}
