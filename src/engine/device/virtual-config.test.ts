import { beforeEach, describe, expect, it } from 'vitest';
import { bootedConfig, eduDeclaration, nvmeDeclaration } from '../../../tests/kit/declarations.ts';
import { CapId, Command, Config, Msi, Pm, PowerState, Status } from '../../abi/pci.ts';
import { Af } from '../../pci/capabilities/advanced-features.ts';
import { PciExp } from '../../pci/capabilities/pci-express-registers.ts';
import { Vpd } from '../../pci/capabilities/vpd.ts';
import { aer, af, msi, otherCapability, pcie, pm, vendorSpecific, vpd } from '../../pci/capabilities.ts';
import type { ConfigSpace } from '../../pci/config-space.ts';
import type { PciDeclaration } from '../../pci/declaration.ts';
import { VirtualConfig, type VirtualConfigOptions } from './virtual-config.ts';

let happened: string[];
let msiOn: boolean;
let msiMost: number;

beforeEach(() => {
  happened = [];
  msiOn = false;
  msiMost = 0;
});

function open(config: ConfigSpace, options?: VirtualConfigOptions): VirtualConfig {
  const pmAt = config.findCapability(CapId.PM);
  return new VirtualConfig(
    config,
    {
      memoryDisabled: () => void happened.push('memoryDisabled'),
      intxDisable: (on) => void happened.push(`intxDisable ${on}`),
      setPowerState: (state) => {
        happened.push(state);
        config.writeBits(pmAt + Pm.CTRL, 2, state === 'D0' ? PowerState.D0 : PowerState.D3HOT, Pm.CTRL_STATE_MASK);
      },
      functionReset: (kind) => void happened.push(kind),
      msiEnabled: () => msiOn,
      msiQueueMax: () => msiMost,
    },
    options,
  );
}

function get(vconfig: VirtualConfig, offset: number, width: number): number {
  const into = new Uint8Array(width);
  expect(vconfig.read(offset, into)).toBe(width);
  return into.reduceRight((value, byte) => value * 256 + byte, 0);
}

function put(vconfig: VirtualConfig, offset: number, width: number, value: number): void {
  expect(
    vconfig.write(
      offset,
      Uint8Array.from({ length: width }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256),
    ),
  ).toBe(width);
}

const card: PciDeclaration = {
  name: 'card',
  vendor: 1,
  device: 2,
  classCode: 0,
  interruptPin: 1,
  bars: [{ index: 0, size: 4096, type: 'mem32' }],
};
const boot = (more: Partial<PciDeclaration> = {}) => bootedConfig({ ...card, ...more }, [[0, 0xfe00_0000n]]);

describe('bounds', () => {
  it('B.8 config: any byte outside of config space is EFAULT, and nothing is changed', () => {
    const vconfig = open(boot());
    const before = vconfig.config.bytes.slice();
    for (const [offset, count] of [
      [256, 1],
      [252, 8],
      [0, 257],
      [-1, 1],
      [-1, 2],
      [Number.NaN, 1],
      [0.5, 1],
      [2 ** 53, 1],
      [Infinity, 4],
      [-(2 ** 53), 1],
    ] as const) {
      expect(() => vconfig.read(offset, new Uint8Array(count)), `${offset}`).toThrow(expect.objectContaining({ code: 'EFAULT' }));
      expect(() => vconfig.write(offset, new Uint8Array(count).fill(0xff)), `${offset}`).toThrow(
        expect.objectContaining({ code: 'EFAULT' }),
      );
    }
    expect(vconfig.config.bytes).toEqual(before);
    expect(happened).toEqual([]);
  });

  it('B.8 config: an empty access is 0, wherever', () => {
    const vconfig = open(boot());
    expect([vconfig.read(4096, new Uint8Array(0)), vconfig.write(4096, new Uint8Array(0))]).toEqual([0, 0]);
  });

  it('B.8 config: a long write is chopped at dwords, so registers act as if written one by one', () => {
    const vconfig = open(boot({ capabilities: [msi({ at: 0x40 })] }));
    const heard: [number, number][] = [];
    vconfig.config.onWrite((offset, width) => heard.push([offset, width]));
    put(vconfig, 0x4d, 1, 0);
    vconfig.write(0x4d, new Uint8Array(8));
    // 4d: MSI's last byte, in the copy only; then the gap.
    expect(heard).toEqual([
      [0x4e, 2],
      [0x50, 4],
      [0x54, 1],
    ]);
  });

  it('S2-02 config space is read while memory decoding is off', () => {
    const vconfig = open(boot());
    put(vconfig, Config.COMMAND, 2, 0);
    expect(get(vconfig, Config.VENDOR_ID, 2)).toBe(1);
  });
});

describe('header', () => {
  it('C.1 COMMAND: turning memory off revokes mappings before hardware sees it', () => {
    const config = boot();
    const vconfig = open(config);
    let decodingWhenRevoked: boolean | undefined;
    const watching = new VirtualConfig(config, {
      memoryDisabled: () => {
        decodingWhenRevoked = config.memoryEnabled;
      },
      intxDisable: () => {},
      setPowerState: () => {},
      functionReset: () => {},
      msiEnabled: () => false,
      msiQueueMax: () => 0,
    });
    put(watching, Config.COMMAND, 2, 0);
    expect([decodingWhenRevoked, config.memoryEnabled, watching.memoryEnabled]).toEqual([true, false, false]);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY);
    expect(happened).toEqual([]);
    expect(vconfig.memoryEnabled).toBe(true);
    put(vconfig, Config.COMMAND, 1, 0);
    put(vconfig, Config.COMMAND, 4, 0);
    expect(happened).toEqual(['memoryDisabled', 'memoryDisabled']);
  });

  it('S2-38 bus mastering is set and cleared by the user’s write, by nothing else', () => {
    const config = boot();
    const vconfig = open(config);
    expect(config.busMaster).toBe(false);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY | Command.MASTER);
    expect(config.busMaster).toBe(true);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY);
    expect(config.busMaster).toBe(false);
  });

  it('C.1 COMMAND: InterruptDisable stays in the copy, and the interrupt side hears of it once per change', () => {
    const config = boot();
    const vconfig = open(config);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY | Command.INTX_DISABLE);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY | Command.INTX_DISABLE);
    expect([get(vconfig, Config.COMMAND, 2), config.command, vconfig.intxDisabled]).toEqual([0x402, 0x002, true]);
    put(vconfig, Config.COMMAND + 1, 1, 0);
    expect(vconfig.intxDisabled).toBe(false);
    expect(happened).toEqual(['intxDisable true', 'intxDisable false']);
  });

  it('C.1 COMMAND: hardware’s own InterruptDisable, which the host uses, survives the user’s writes', () => {
    const config = boot();
    const vconfig = open(config);
    config.write(Config.COMMAND, 2, config.command | Command.INTX_DISABLE);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY);
    expect(config.intxDisabled).toBe(true);
    expect(get(vconfig, Config.COMMAND, 2)).toBe(Command.MEMORY);
  });

  it('C.1 STATUS: error bits are not the user’s to clear, not even beside a write of COMMAND', () => {
    const config = boot();
    config.bytes[Config.STATUS + 1] = Status.ERRORS >> 8;
    const vconfig = open(config);
    put(vconfig, Config.STATUS, 2, 0xffff);
    put(vconfig, Config.COMMAND, 4, 0xffff_0002);
    expect(config.read(Config.STATUS, 2)).toBe(Status.ERRORS);
  });

  it('C.1 COMMAND: after a reset behind our back, turning memory on restores the BARs', () => {
    const config = bootedConfig({ ...card, rom: new Uint8Array(2048) }, [[0, 0xfe00_0000n]]);
    config.romAddress = 0xfd00_0000;
    const vconfig = open(config);
    config.reset();
    expect(vconfig.memoryEnabled).toBe(true);
    expect(config.memoryEnabled).toBe(false);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY);
    expect([config.barAddress(0), config.romAddress, config.memoryEnabled]).toEqual([0xfe00_0000n, 0xfd00_0000, true]);
    config.setBarAddress(0, 0n);
    put(vconfig, Config.COMMAND, 2, 0);
    expect(config.barAddress(0)).toBe(0xfe00_0000n);
  });

  it('C.1 BARs: the user moves and sizes his own, the real ones stay', () => {
    const config = bootedConfig(
      {
        ...card,
        bars: [
          { index: 0, size: 4096, type: 'mem32' },
          { index: 2, size: 2 ** 33, type: 'mem64', prefetchable: true },
          { index: 4, size: 64, type: 'io' },
        ],
      },
      [
        [0, 0xfe00_0000n],
        [2, 0x40_0000_0000n],
        [4, 0xc000n],
      ],
    );
    const vconfig = open(config);
    const before = config.bytes.slice();
    vconfig.write(Config.BASE_ADDRESS_0, new Uint8Array(24).fill(0xff));
    expect([0, 1, 2, 3, 4, 5].map((i) => get(vconfig, Config.BASE_ADDRESS_0 + 4 * i, 4))).toEqual([
      0xfffff000, 0, 0x0000000c, 0xfffffffe, 0xffffffc1, 0,
    ]);
    put(vconfig, Config.BASE_ADDRESS_0, 4, 0x1234_5678);
    expect(get(vconfig, Config.BASE_ADDRESS_0, 4)).toBe(0x1234_5000);
    put(vconfig, Config.BASE_ADDRESS_0 + 2, 1, 0xff);
    expect(get(vconfig, Config.BASE_ADDRESS_0, 4)).toBe(0x12ff_5000);
    expect(config.bytes).toEqual(before);
  });

  it('C.1 BARs: one that the host could not place is not there', () => {
    const vconfig = open(bootedConfig(card));
    put(vconfig, Config.BASE_ADDRESS_0, 4, 0xffff_ffff);
    expect(get(vconfig, Config.BASE_ADDRESS_0, 4)).toBe(0);
  });

  it('C.1 ROM BAR: sizes as a BAR, with its enable bit', () => {
    const config = bootedConfig({ ...card, rom: new Uint8Array(5000) }, [[0, 0xfe00_0000n]]);
    config.romAddress = 0xfd00_0000;
    const vconfig = open(config);
    put(vconfig, Config.ROM_ADDRESS, 4, 0xffff_ffff);
    expect(get(vconfig, Config.ROM_ADDRESS, 4)).toBe(0xffff_e001);
    expect(config.romAddress).toBe(0xfd00_0000);
    const none = open(boot());
    put(none, Config.ROM_ADDRESS, 4, 0xffff_ffff);
    expect(get(none, Config.ROM_ADDRESS, 4)).toBe(0);
  });

  it('C.1 interrupt line is a scratch register of the user, the pin is not his', () => {
    const config = boot();
    const vconfig = open(config);
    put(vconfig, Config.INTERRUPT_LINE, 2, 0x0233);
    expect([get(vconfig, Config.INTERRUPT_LINE, 2), config.read(Config.INTERRUPT_LINE, 1)]).toEqual([0x0133, 10]);
  });

  it('B.9 nointx devices: the pin reads 0 and hardware keeps InterruptDisable, also through a restore', () => {
    const config = boot();
    const vconfig = open(config, { noIntx: true });
    expect([get(vconfig, Config.INTERRUPT_PIN, 1), vconfig.interruptPin, config.intxDisabled]).toEqual([0, 0, true]);
    put(vconfig, Config.COMMAND, 2, Command.MEMORY);
    expect(config.intxDisabled).toBe(true);
    config.reset();
    put(vconfig, Config.COMMAND, 2, Command.MEMORY);
    expect([config.intxDisabled, config.barAddress(0)]).toEqual([true, 0xfe00_0000n]);
  });

  it('C.1 virtual functions: ids and the memory bit come from the copy, the pin reads 0', () => {
    const config = bootedConfig({ ...card, vendor: 0xffff, device: 0xffff });
    config.write(Config.COMMAND, 2, 0);
    const vconfig = open(config, { isVirtualFunction: true, vendor: 0x1b36, device: 0x10 });
    expect([get(vconfig, Config.VENDOR_ID, 4), get(vconfig, Config.INTERRUPT_PIN, 1)]).toEqual([0x0010_1b36, 0]);
    expect(get(vconfig, Config.COMMAND, 2)).toBe(Command.MEMORY);
    expect(vconfig.memoryEnabled).toBe(true);
    put(vconfig, Config.COMMAND, 2, 0);
    expect(get(vconfig, Config.COMMAND, 1)).toBe(0);
    expect(happened).toEqual(['memoryDisabled']);
    put(vconfig, Config.BASE_ADDRESS_0, 4, 0xffff_ffff);
    expect(get(vconfig, Config.BASE_ADDRESS_0, 4)).toBe(0xffff_f000);
  });
});

describe('capabilities', () => {
  it('C.2 PM: the state is asked of the host, D3hot after revoking mappings', () => {
    const config = boot({ capabilities: [pm({ at: 0x40 })] });
    const vconfig = open(config);
    put(vconfig, 0x40 + Pm.CTRL, 2, 3);
    expect([get(vconfig, 0x40 + Pm.CTRL, 2), vconfig.memoryEnabled]).toEqual([0x000b, false]);
    put(vconfig, 0x40 + Pm.CTRL + 1, 1, 0);
    put(vconfig, 0x40 + Pm.CTRL, 1, 0);
    expect(vconfig.memoryEnabled).toBe(true);
    expect(happened).toEqual(['memoryDisabled', 'D3hot', 'D0']);
  });

  it('C.2 PM: a host that refuses leaves the state as it is', () => {
    const config = boot({ capabilities: [pm({ at: 0x40 })] });
    const vconfig = new VirtualConfig(config, {
      memoryDisabled: () => {},
      intxDisable: () => {},
      setPowerState: () => {},
      functionReset: () => {},
      msiEnabled: () => false,
      msiQueueMax: () => 0,
    });
    put(vconfig, 0x40 + Pm.CTRL, 4, 3);
    expect([get(vconfig, 0x40 + Pm.CTRL, 2), vconfig.memoryEnabled]).toEqual([0x0008, true]);
  });

  it('C.2 PM: D1 and D2 only where the device has them, and from a shallower state', () => {
    const without = open(boot({ capabilities: [pm({ at: 0x40 })] }));
    put(without, 0x44, 2, 1);
    expect(get(without, 0x44, 2) & 3).toBe(0);
    const vconfig = open(boot({ capabilities: [pm({ at: 0x40, d1: true, d2: true })] }));
    put(vconfig, 0x44, 2, 2);
    expect(get(vconfig, 0x44, 2) & 3).toBe(2);
    put(vconfig, 0x44, 2, 1);
    expect(get(vconfig, 0x44, 2) & 3).toBe(2);
    expect(happened).toEqual([]);
  });

  it('C.2 PM: events are neither shown nor set', () => {
    const config = boot({ capabilities: [pm({ at: 0x40, pme: true })] });
    config.bytes[0x45] = Pm.CTRL_PME_STATUS >> 8;
    const vconfig = open(config);
    expect([get(vconfig, 0x42, 2), get(vconfig, 0x44, 2)]).toEqual([0x0003, 0x0008]);
    put(vconfig, 0x44, 2, 0x8100);
    expect([config.read(0x44, 2), get(vconfig, 0x44, 2)]).toEqual([0x8008, 0x0008]);
  });

  it('C.2 VPD: the host reads and writes, the flag toggles when it is done', () => {
    const image = Uint8Array.from({ length: 16 }, (_, i) => i);
    const config = boot({ capabilities: [vpd(image, { at: 0x40 })] });
    const vconfig = open(config);
    put(vconfig, 0x40 + Vpd.ADDR, 2, 8);
    expect([get(vconfig, 0x40 + Vpd.ADDR, 2), get(vconfig, 0x40 + Vpd.DATA, 4)]).toEqual([0x8008, 0x0b0a0908]);
    put(vconfig, 0x40 + Vpd.DATA, 4, 0x11223344);
    put(vconfig, 0x40 + Vpd.ADDR, 1, 0x04);
    expect(get(vconfig, 0x40 + Vpd.ADDR, 2)).toBe(0x8004);
    put(vconfig, 0x40 + Vpd.ADDR, 2, 0x8004);
    expect(get(vconfig, 0x40 + Vpd.ADDR, 2)).toBe(0x0004);
    put(vconfig, 0x40 + Vpd.ADDR, 2, 4);
    expect(get(vconfig, 0x40 + Vpd.DATA, 4)).toBe(0x11223344);
  });

  it('C.2 VPD: an access that fails does not toggle the flag', () => {
    const vconfig = open(boot({ capabilities: [vpd(new Uint8Array(8), { at: 0x40 })] }));
    put(vconfig, 0x40 + Vpd.ADDR, 2, 0x8100);
    expect(get(vconfig, 0x40 + Vpd.ADDR, 2)).toBe(0x8100);
    const silent = open(boot({ capabilities: [otherCapability(CapId.VPD, 'VPD that never answers', new Uint8Array(6), { at: 0x40 })] }));
    put(silent, 0x40 + Vpd.ADDR, 2, 4);
    expect(get(silent, 0x40 + Vpd.ADDR, 2)).toBe(4);
  });

  it('C.2 MSI: the message is the user’s in the copy only', () => {
    const config = boot({ capabilities: [msi({ at: 0x40, vectors: 4, maskable: true })] });
    const vconfig = open(config);
    const before = config.bytes.slice();
    put(vconfig, 0x40 + Msi.ADDRESS_LO, 4, 0xfee0_1234);
    put(vconfig, 0x40 + Msi.ADDRESS_HI, 4, 1);
    put(vconfig, 0x40 + Msi.DATA_64, 2, 0x4321);
    expect([get(vconfig, 0x40 + Msi.ADDRESS_LO, 4), get(vconfig, 0x40 + Msi.ADDRESS_HI, 4), get(vconfig, 0x40 + Msi.DATA_64, 2)]).toEqual([
      0xfee01234, 1, 0x4321,
    ]);
    expect(config.bytes).toEqual(before);
    put(vconfig, 0x40 + Msi.MASK_64, 4, 0xff);
    expect(config.read(0x40 + Msi.MASK_64, 4)).toBe(0xf);
  });

  it('C.2 MSI: enabled only while SET_IRQS has enabled it, with no more messages than asked for there', () => {
    const config = boot({ capabilities: [msi({ at: 0x40, vectors: 8 })] });
    const vconfig = open(config);
    put(vconfig, 0x42, 2, 0x0021);
    expect([get(vconfig, 0x42, 2), config.read(0x42, 2)]).toEqual([0x0000, 0x0086]);
    msiOn = true;
    msiMost = 1;
    put(vconfig, 0x42, 1, 0xb1);
    expect([get(vconfig, 0x42, 2), config.read(0x42, 2)]).toEqual([0x0091, 0x0097]);
    put(vconfig, 0x42, 2, 0);
    expect(config.read(0x42, 2) & Msi.FLAGS_ENABLE).toBe(0);
  });

  it('C.2 vendor-specific registers are written raw', () => {
    const config = boot({ capabilities: [vendorSpecific(new Uint8Array(5), { at: 0x40, writable: true })] });
    const vconfig = open(config);
    vconfig.write(0x40, new Uint8Array(8).fill(0xff));
    expect(Buffer.from(config.bytes.subarray(0x40, 0x48)).toString('hex')).toBe('090008ffffffffff');
  });

  it('C.2 PCIe: FLR resets through the host if the device has it, and always reads 0', () => {
    const vconfig = open(bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]]));
    put(vconfig, 0x80 + PciExp.DEVCTL, 2, PciExp.DEVCTL_BCR_FLR);
    expect(happened).toEqual(['memoryDisabled', 'flr']);
    expect(get(vconfig, 0x80 + PciExp.DEVCTL, 2)).toBe(0);
    happened = [];
    const without = open(boot({ capabilities: [pcie({ at: 0x40 })] }));
    put(without, 0x40 + PciExp.DEVCTL, 4, PciExp.DEVCTL_BCR_FLR);
    expect([happened, get(without, 0x40 + PciExp.DEVCTL, 2)]).toEqual([[], 0]);
  });

  it('C.2 PCIe: payload size stays in the copy, read request size goes to hardware but not below the payload', () => {
    const config = boot({ capabilities: [pcie({ at: 0x40, maxPayload: 512, deviceControl: 0x7fff })] });
    config.write(0x48, 2, 1 << PciExp.DEVCTL_PAYLOAD_SHIFT);
    const vconfig = open(config);
    put(vconfig, 0x48, 2, (2 << PciExp.DEVCTL_PAYLOAD_SHIFT) | (3 << PciExp.DEVCTL_READRQ_SHIFT));
    expect([get(vconfig, 0x48, 2), config.read(0x48, 2)]).toEqual([0x3040, 0x3020]);
    put(vconfig, 0x48, 2, 0);
    expect([get(vconfig, 0x48, 2), config.read(0x48, 2)]).toEqual([0x0000, 0x1020]);
    // 6 and 7 are no sizes: the copy has them, and hardware keeps its value.
    put(vconfig, 0x48, 2, 7 << PciExp.DEVCTL_READRQ_SHIFT);
    expect([get(vconfig, 0x48, 2), config.read(0x48, 2)]).toEqual([0x7000, 0x1020]);
  });

  it('C.2 PCIe: phantom functions, ARI and the link are not the user’s', () => {
    const config = boot({ capabilities: [pcie({ at: 0x40, deviceControl: 0x7fff })] });
    const vconfig = open(config);
    put(vconfig, 0x48, 2, PciExp.DEVCTL_PHANTOM | PciExp.DEVCTL_CERE);
    put(vconfig, 0x40 + PciExp.LNKCTL, 2, 0xffff);
    put(vconfig, 0x40 + PciExp.DEVCTL2, 2, 0xffff);
    expect([config.read(0x48, 2), config.read(0x40 + PciExp.LNKCTL, 2), config.read(0x40 + PciExp.DEVCTL2, 2)]).toEqual([
      1,
      0,
      PciExp.DEVCTL2_EETLPPB,
    ]);
  });

  it('C.2 AF: FLR resets through the host if the device has it, and reads 0', () => {
    const vconfig = open(boot({ capabilities: [af({ at: 0x40 })] }));
    put(vconfig, 0x40 + Af.CTRL, 1, Af.CTRL_FLR);
    expect([happened, get(vconfig, 0x40 + Af.CTRL, 1)]).toEqual([['memoryDisabled', 'af'], 0]);
    happened = [];
    put(vconfig, 0x40 + Af.CTRL, 1, 0xff & ~Af.CTRL_FLR);
    expect(happened).toEqual([]);
    const without = open(boot({ capabilities: [af({ at: 0x40, flr: false })] }));
    put(without, 0x40 + Af.CTRL, 1, Af.CTRL_FLR);
    expect([happened, get(without, 0x40 + Af.CTRL, 1)]).toEqual([[], 0]);
  });

  it('C.3 AER: clearing one error leaves the others', () => {
    const config = bootedConfig({ ...card, capabilities: [pcie()], extendedCapabilities: [aer()] }, [[0, 0xfe00_0000n]]);
    config.bytes[0x105] = 0xf0;
    const vconfig = open(config);
    put(vconfig, 0x104, 4, 0x1000);
    expect(config.read(0x104, 4)).toBe(0xe000);
  });

  it('S2-43 a power cycle as a driver does it: D0, D3hot, D0, and the registers are as before', () => {
    const config = bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]]);
    const vconfig = open(config);
    const before = new Uint8Array(4096);
    const after = new Uint8Array(4096);
    vconfig.read(0, before);
    put(vconfig, 0x64, 2, 3);
    put(vconfig, 0x64, 2, 0);
    vconfig.read(0, after);
    expect(after).toEqual(before);
  });

  it('S2-45 a broken chain whose registers are cut off or covered does no side effects', () => {
    const config = bootedConfig(eduDeclaration, [[0, 0xfe20_0000n]]);
    for (const id of [CapId.EXP, CapId.VPD, CapId.AF, CapId.PM, CapId.MSI]) {
      config.bytes[0x41] = 0xfc;
      config.bytes[0xfc] = id;
      config.bytes[0xfd] = 0;
      const vconfig = open(config);
      for (let at = 0xf0; at < 0x100; at++) put(vconfig, at, 1, 0xff);
      put(vconfig, 0xfc, 4, 0xffff_ffff);
      config.bytes.fill(0, 0xf0);
    }
    expect(happened).toEqual([]);
  });
});

describe('explain', () => {
  it('S2-44 explains the bits that would land, the effects and the value that would read back, and changes nothing', () => {
    const config = bootedConfig(nvmeDeclaration, [[0, 0xfde0_0000n]]);
    const vconfig = open(config);
    const [hardware, copy] = [config.bytes.slice(), vconfig.bytes.slice()];
    expect(vconfig.explain(Config.COMMAND, 2, Command.INTX_DISABLE)).toMatchObject({
      effects: ['mappings of the BARs are revoked', 'the INTx interrupt is masked'],
      readsBack: 0x400,
    });
    expect(vconfig.explain(Config.BASE_ADDRESS_0, 4, 0xffff_ffff).readsBack).toBe(0xffff_c004);
    expect(vconfig.explain(0x64, 2, 3)).toMatchObject({
      effects: ['mappings of the BARs are revoked', 'the host puts the device into D3hot'],
      readsBack: 0x0b,
    });
    expect(vconfig.explain(0x88, 2, 0x8000)).toMatchObject({
      effects: ['mappings of the BARs are revoked', expect.stringMatching(/resets the function \(FLR\)/)],
      readsBack: 0,
    });
    expect([config.bytes, vconfig.bytes, happened]).toEqual([hardware, copy, []]);
  });

  it('S2-44 explains the device as its user has it, here without an interrupt pin', () => {
    const vconfig = open(bootedConfig(card, [[0, 0xfe00_0000n]]), { noIntx: true });
    expect(vconfig.explain(Config.INTERRUPT_LINE, 2, 0x010b).readsBack).toBe(0x000b);
  });
});
