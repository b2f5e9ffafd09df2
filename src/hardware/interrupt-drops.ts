/** Interrupts that never reached a listener, by cause. */
export interface InterruptDrops {
  /** A message while neither MSI nor MSI-X is enabled in hardware. */
  readonly notEnabled: number;
  /** A vector that the device does not have, or that software did not give it. */
  readonly badVector: number;
  /** COMMAND.BusMaster is off: the device may not write messages. */
  readonly busMasterOff: number;
  /** The function sleeps. */
  readonly notPowered: number;
  /** The message was not the programmed one: interrupt remapping stopped it. */
  readonly remapped: number;
  /** A function without a pin raised INTx. */
  readonly noPin: number;
  /** It arrived, and this function's interrupts have no handler. */
  readonly noListener: number;
  /** The listener threw: a bug of its own. */
  readonly listenerFailed: number;
}

/** The word of each in events. */
export const dropReasons: { readonly [D in keyof InterruptDrops]: string } = {
  notEnabled: 'not-enabled',
  badVector: 'bad-vector',
  busMasterOff: 'bus-master-off',
  notPowered: 'not-powered',
  remapped: 'remapped',
  noPin: 'no-pin',
  noListener: 'no-listener',
  listenerFailed: 'listener-failed',
};
