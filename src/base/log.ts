/**
 * The log of the library. A room writes to the `Logger` that its caller passes in, and to nothing
 * else. The default is silent.
 */
/**
 * How important a line is: 'error' is a fault of this package, 'warn' one of a peer, a device or
 * its driver.
 */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Where an engine, a server or a model writes lines about faults that nothing throws. */
export interface Logger {
  /**
   * Writes one line. `message` has no line break and no time stamp. An error thrown here loses the
   * line only.
   */
  log(level: LogLevel, message: string): void;
}

export const silentLogger: Logger = { log: () => {} };

/** The kind of a message: its text without the numbers. */
export function kindOf(message: string): string {
  return message.replace(/0x[0-9a-f]+|\d+/gi, '#');
}
