/**
 * Names of the registers of bridges' headers, for messages about an offset. Endpoints' registers
 * have their names in permissions.ts.
 */
import { Cardbus, Config, HEADER_SIZE, HeaderType } from '../../abi/pci.ts';

type Names = readonly (readonly [offset: number, name: string])[];

const common: Names = [
  [Config.VENDOR_ID, 'vendor id'],
  [Config.DEVICE_ID, 'device id'],
  [Config.COMMAND, 'COMMAND'],
  [Config.STATUS, 'STATUS'],
  [Config.REVISION_ID, 'revision'],
  [Config.CLASS_PROG, 'programming interface'],
  [Config.CLASS_DEVICE, 'class'],
  [Config.CACHE_LINE_SIZE, 'cache line size'],
  [Config.LATENCY_TIMER, 'latency timer'],
  [Config.HEADER_TYPE, 'header type'],
  [Config.BIST, 'BIST'],
  [Config.BASE_ADDRESS_0, 'BAR 0'],
];

/** In order of offset: a register reaches to the next one. */
const registers: Readonly<Record<number, Names>> = {
  [HeaderType.BRIDGE]: [
    ...common,
    [Config.BASE_ADDRESS_1, 'BAR 1'],
    [Config.BRIDGE_PRIMARY_BUS, 'primary bus number'],
    [Config.BRIDGE_SECONDARY_BUS, 'secondary bus number'],
    [Config.BRIDGE_SUBORDINATE_BUS, 'subordinate bus number'],
    [Config.BRIDGE_SEC_LATENCY_TIMER, 'secondary latency timer'],
    [Config.BRIDGE_IO_BASE, 'I/O base'],
    [Config.BRIDGE_IO_LIMIT, 'I/O limit'],
    [Config.BRIDGE_SEC_STATUS, 'secondary status'],
    [Config.BRIDGE_MEMORY_BASE, 'memory base'],
    [Config.BRIDGE_MEMORY_LIMIT, 'memory limit'],
    [Config.BRIDGE_PREF_MEMORY_BASE, 'prefetchable memory base'],
    [Config.BRIDGE_PREF_MEMORY_LIMIT, 'prefetchable memory limit'],
    [Config.BRIDGE_PREF_BASE_UPPER32, 'prefetchable base, upper half'],
    [Config.BRIDGE_PREF_LIMIT_UPPER32, 'prefetchable limit, upper half'],
    [Config.BRIDGE_IO_BASE_UPPER16, 'I/O base, upper half'],
    [Config.BRIDGE_IO_LIMIT_UPPER16, 'I/O limit, upper half'],
    [Config.CAPABILITY_LIST, 'capability pointer'],
    [Config.BRIDGE_ROM_ADDRESS, 'ROM BAR'],
    [Config.INTERRUPT_LINE, 'interrupt line'],
    [Config.INTERRUPT_PIN, 'interrupt pin'],
    [Config.BRIDGE_CONTROL, 'Bridge Control'],
  ],
  [HeaderType.CARDBUS]: [
    ...common,
    [Cardbus.CAPABILITY_LIST, 'capability pointer'],
    [Cardbus.SEC_STATUS, 'secondary status'],
    [Cardbus.PRIMARY_BUS, 'primary bus number'],
    [Cardbus.CARD_BUS, 'CardBus bus number'],
    [Cardbus.SUBORDINATE_BUS, 'subordinate bus number'],
    [Cardbus.LATENCY_TIMER, 'CardBus latency timer'],
    [Cardbus.MEMORY_BASE_0, 'memory base 0'],
    [Cardbus.MEMORY_BASE_0 + 4, 'memory limit 0'],
    [Cardbus.MEMORY_BASE_0 + 8, 'memory base 1'],
    [Cardbus.MEMORY_BASE_0 + 12, 'memory limit 1'],
    [Cardbus.IO_BASE_0, 'I/O base 0'],
    [Cardbus.IO_BASE_0 + 4, 'I/O limit 0'],
    [Cardbus.IO_BASE_0 + 8, 'I/O base 1'],
    [Cardbus.IO_BASE_0 + 12, 'I/O limit 1'],
    [Config.INTERRUPT_LINE, 'interrupt line'],
    [Config.INTERRUPT_PIN, 'interrupt pin'],
    [Cardbus.BRIDGE_CONTROL, 'Bridge Control'],
  ],
};

/**
 * The register that a byte of a bridge's header belongs to; undefined outside of the header, and
 * for other header types.
 */
export function bridgeRegisterAt(headerType: number, offset: number): string | undefined {
  if (offset < 0 || offset >= HEADER_SIZE) return undefined;
  return registers[headerType]?.findLast(([at]) => at <= offset)?.[1];
}

/** "a bridge (header type 1)": a function that VFIO gives to no user. Undefined for an endpoint. */
export function bridgeKind(headerType: number): string | undefined {
  if (headerType === HeaderType.NORMAL) return undefined;
  const kinds: Readonly<Record<number, string>> = { [HeaderType.BRIDGE]: 'a bridge', [HeaderType.CARDBUS]: 'a CardBus bridge' };
  return `${kinds[headerType] ?? 'a function that is no endpoint'} (header type ${headerType})`;
}
