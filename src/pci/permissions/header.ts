/** Permissions of the header, 0x00 to 0x3f. */
import { Command, Config, HEADER_SIZE, Status } from '../../abi/pci.ts';
import { ALL, type CapabilityPermissions, fixed, row, Why, withBits } from './rows.ts';

const busWhy = 'the real BARs stay where the host put them; sizing is emulated on the copy';
const bar = (i: number) => row(Config.BASE_ADDRESS_0 + 4 * i, 4, `BAR ${i}`, ALL, ALL, busWhy, 'bar-sizing');

/** The header, 0x00 to 0x3f, of an endpoint: bridges are never given away. */
export const headerPermissions: CapabilityPermissions = {
  id: 0,
  extended: false,
  name: 'header',
  length: fixed(HEADER_SIZE),
  raw: false,
  why: Why.IDENTITY,
  rows: [
    row(Config.VENDOR_ID, 2, 'vendor id', ALL, 0, 'virtual functions read all ones in hardware; the host gives the real id'),
    row(Config.DEVICE_ID, 2, 'device id', ALL, 0, 'virtual functions read all ones in hardware; the host gives the real id'),
    withBits(
      row(
        Config.COMMAND,
        2,
        'COMMAND',
        Command.INTX_DISABLE,
        ALL,
        'the user may set it: it concerns this function only, and its DMA goes through the IOMMU',
        'memory-decode',
        'intx-mask',
      ),
      [Command.INTX_DISABLE, 'the host uses the hardware’s bit to mask the interrupt, so the user has one of their own'],
    ),
    withBits(
      row(Config.STATUS, 2, 'STATUS', Status.CAP_LIST, 0, Why.CAN_DO),
      [Status.CAP_LIST, Why.CHAIN],
      [Status.ERRORS, 'errors are the host’s to see and to clear'],
    ),
    row(Config.REVISION_ID, 1, 'revision', 0, 0, Why.IDENTITY),
    row(Config.CLASS_PROG, 1, 'programming interface', 0, 0, Why.IDENTITY),
    row(Config.CLASS_DEVICE, 2, 'class', 0, 0, Why.IDENTITY),
    row(Config.CACHE_LINE_SIZE, 1, 'cache line size', 0, ALL, 'no harm in it'),
    row(Config.LATENCY_TIMER, 1, 'latency timer', 0, ALL, 'no harm in it'),
    row(Config.HEADER_TYPE, 1, 'header type', 0, 0, Why.IDENTITY),
    row(Config.BIST, 1, 'BIST', 0, ALL, 'no harm in it: tests this function only'),
    bar(0),
    bar(1),
    bar(2),
    bar(3),
    bar(4),
    bar(5),
    row(Config.CARDBUS_CIS, 4, 'CardBus CIS', 0, 0, Why.IDENTITY),
    row(Config.SUBSYSTEM_VENDOR_ID, 2, 'subsystem vendor id', 0, 0, Why.IDENTITY),
    row(Config.SUBSYSTEM_ID, 2, 'subsystem id', 0, 0, Why.IDENTITY),
    row(Config.ROM_ADDRESS, 4, 'ROM BAR', ALL, ALL, busWhy, 'bar-sizing'),
    row(Config.CAPABILITY_LIST, 1, 'capability pointer', ALL, 0, Why.CHAIN),
    row(Config.INTERRUPT_LINE, 1, 'interrupt line', ALL, ALL, 'a scratch register of software; guests keep their own routing in it'),
    row(
      Config.INTERRUPT_PIN,
      1,
      'interrupt pin',
      ALL,
      0,
      'reads 0 when there is no INTx to give: a virtual function, no line, or INTx not usable',
    ),
    row(Config.MIN_GNT, 1, 'minimum grant', 0, 0, 'read-only: timing needs of the device'),
    row(Config.MAX_LAT, 1, 'maximum latency', 0, 0, 'read-only: timing needs of the device'),
  ],
};
