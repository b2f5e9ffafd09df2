/** Power management (PCI Power Management 1.2). */
import { CapId, Pm } from '../../abi/pci.ts';
import { checkIndex } from '../../base/check.ts';
import { VfioError } from '../../base/errno.ts';
import type { Capability } from '../declaration.ts';
import { choice } from '../decode/text.ts';
import { fixed, row, Why, withBits } from '../permissions/rows.ts';
import { CapabilityBuilder, type Placed } from './builder.ts';
import type { CapabilityDecoder, CapabilityKind } from './kind.ts';

/** Aux_Current, by its value in PMC. */
const AUX_CURRENTS_MA = [0, 55, 100, 160, 220, 270, 320, 375] as const;
const pmeStates = ['D0', 'D1', 'D2', 'D3hot', 'D3cold'] as const;

/** The registers of a power management capability that a model chooses. */
export interface PmOptions extends Placed {
  /** Default: 3. */
  readonly version?: number;
  /** False: leaving D3hot resets the function. Default: true. */
  readonly noSoftReset?: boolean;
  readonly d1?: boolean;
  readonly d2?: boolean;
  /** States from which the function can wake the machine; true: D0 and D3hot. Default: none. */
  readonly pme?: boolean | readonly (typeof pmeStates)[number][];
  /** PME needs the PCI clock. */
  readonly pmeClock?: boolean;
  /**
   * The function has to be set up by its driver before it works (Device Specific Initialization).
   */
  readonly dsi?: boolean;
  /** Immediate_Readiness_on_Return_to_D0. */
  readonly immediateReadiness?: boolean;
  /**
   * The current that the function draws from auxiliary power to wake from D3cold: 0, 55, 100, 160,
   * 220, 270, 320 or 375 mA. Default: 0.
   */
  readonly auxCurrentMa?: (typeof AUX_CURRENTS_MA)[number];
}

/** Power management: D0 and D3hot always, other abilities as declared. @throws VfioError EINVAL */
export function pm(options: PmOptions = {}): Capability {
  const from = options.pme === true ? ['D0', 'D3hot'] : options.pme === undefined || options.pme === false ? [] : options.pme;
  let pmc = checkIndex(options.version ?? 3, Pm.PMC_VERSION_MASK, 'power management version');
  for (const state of from) {
    const index = (pmeStates as readonly string[]).indexOf(state);
    if (index === -1) throw new VfioError('EINVAL', `PME from ${String(state)}: the states are ${pmeStates.join(', ')}`);
    if ((index === 1 && options.d1 !== true) || (index === 2 && options.d2 !== true)) {
      throw new VfioError('EINVAL', `PME from ${state} on a function that does not support ${state}`, {
        fix: `Add ${state.toLowerCase()}: true.`,
      });
    }
    pmc |= 1 << (Pm.PMC_PME_SHIFT + index);
  }
  const aux = AUX_CURRENTS_MA.indexOf(options.auxCurrentMa ?? 0);
  if (aux === -1) {
    throw new VfioError('EINVAL', `auxCurrentMa is ${String(options.auxCurrentMa)}; it must be one of ${AUX_CURRENTS_MA.join(', ')}`);
  }
  pmc |= aux << Pm.PMC_AUX_SHIFT;
  const flags = [
    [options.d1, Pm.PMC_D1],
    [options.d2, Pm.PMC_D2],
    [options.pmeClock, Pm.PMC_PME_CLOCK],
    [options.dsi, Pm.PMC_DSI],
    [options.immediateReadiness, Pm.PMC_IMM_READY],
  ] as const;
  for (const [on, bit] of flags) if (on === true) pmc |= bit;
  const pme = from.length > 0;
  return new CapabilityBuilder(Pm.SIZE)
    .set(Pm.PMC, 2, pmc)
    .set(
      Pm.CTRL,
      2,
      options.noSoftReset === false ? 0 : Pm.CTRL_NO_SOFT_RESET,
      Pm.CTRL_STATE_MASK | (pme ? Pm.CTRL_PME_ENABLE : 0),
      pme ? Pm.CTRL_PME_STATUS : 0,
    )
    .build(powerManagement, options);
}

const decode: CapabilityDecoder = (r, d) => {
  const title = d.text('capabilities', r.u16(Pm.PMC), 'Power Management version {version=2:0}');
  d.line(
    'capabilities',
    r.u16(Pm.PMC),
    '\t\tFlags: PMEClk{3} DSI{5} D1{9} D2{10} AuxCurrent={8:6 auxCurrent}mA PME(D0{PMED0=11},D1{PMED1=12},D2{PMED2=13},D3hot{PMED3hot=14},D3cold{PMED3cold=15})',
  );
  if (r.has(Pm.CTRL, 4)) {
    d.line('control', r.u16(Pm.CTRL), '\t\tStatus: D{state=1:0} NoSoftRst{3} PME-Enable{8} DSel={12:9} DScale={14:13} PME{PMEStatus=15}');
    const bridge = r.u8(Pm.PPB_EXTENSIONS);
    if (bridge !== 0) {
      // The bus stops its clock in B2 when bit 6 is set, and goes to B3 otherwise.
      d.lines.push(`\t\tBridge: PM${bridge & 0x80 ? '+' : '-'} B3${bridge & 0x40 ? '-' : '+'}`);
      d.set('bridge', 'PM', (bridge & 0x80) !== 0).set('bridge', 'B3', (bridge & 0x40) === 0);
    }
  }
  return { title };
};

const PME = Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS;

export const powerManagement: CapabilityKind = {
  id: CapId.PM,
  name: 'Power Management',
  access: {
    length: fixed(Pm.SIZE),
    why: Why.CAN_DO,
    rows: [
      withBits(row(Pm.PMC, 2, 'power management capabilities', Pm.PMC_PME_MASK, 0, Why.CAN_DO), [
        Pm.PMC_PME_MASK,
        'power management events go to the host, so VFIO shows none to the user',
      ]),
      withBits(
        row(Pm.CTRL, 2, 'power management control', PME, ~(PME | Pm.CTRL_STATE_MASK), 'power management is per function', 'power-state'),
        [Pm.CTRL_STATE_MASK, 'never written through: the host changes the state on the user’s behalf'],
        [PME, 'power management events belong to the host'],
      ),
    ],
  },
  choices: { auxCurrent: choice(AUX_CURRENTS_MA.map(String)) },
  decode,
};
