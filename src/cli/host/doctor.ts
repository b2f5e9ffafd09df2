/** `vfio doctor`: whether this computer can give devices to users, and what to change. */
import { diagnose } from '../../host/doctor.ts';
import type { CheckFinding, FindingStatus } from '../../host/doctor-check.ts';
import { checkFunction } from '../../host/function-state.ts';
import type { CommandContext } from '../command.ts';
import { Exit } from '../exit-codes.ts';
import { json, type Terminal } from '../terminal.ts';
import { hostAccess } from './host-options.ts';

interface DoctorOptions {
  readonly sysfs?: string;
  readonly json?: boolean;
}

export async function doctor({ terminal }: CommandContext, options: DoctorOptions, bdf: string | undefined): Promise<number> {
  const { files, host, stakes } = hostAccess(options, false);
  if (bdf !== undefined) checkFunction(files, bdf);
  const findings = diagnose(files, files.live ? host : null, bdf ?? null, stakes);
  const problems = findings.filter(({ status }) => status === 'problem').length;
  if (options.json === true) json(terminal, 'vfio-ts/doctor/1', { origin: files.origin, bdf: bdf ?? null, problems, findings });
  else print(findings, terminal);
  return problems === 0 ? Exit.OK : Exit.PROBLEMS;
}

const marks: Readonly<Record<FindingStatus, string>> = { ok: '✓', warning: '!', problem: 'x', unknown: '?' };

function print(findings: readonly CheckFinding[], { out, paint }: Terminal): void {
  const painters = { ok: paint.green, warning: paint.yellow, problem: paint.red, unknown: paint.dim };
  const width = Math.max(...findings.map(({ title }) => title.length));
  for (const { status, title, what, why, fix } of findings) {
    out(`${painters[status](marks[status])} ${title.padEnd(width)}  ${what}`);
    // Where all is well the reason is a remark, and needs no remedy.
    if (why !== undefined) out(`  ${' '.repeat(width)}  ${paint.dim(why)}`);
    if (fix !== undefined && status !== 'ok') out(`  ${' '.repeat(width)}  fix: ${fix}`);
  }
}
