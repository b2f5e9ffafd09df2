/** `vfio grant`: the nodes of a group for a user. */
import { targetFunctions } from '../../host/host-bind.ts';
import { carryOutGrant, grantRule, grantRuleFile, planGrant, userOf } from '../../host/host-grant.ts';
import type { CommandContext } from '../command.ts';
import { json } from '../terminal.ts';
import { checkAdministrator, hostAccess } from './host-options.ts';

interface Options {
  readonly group?: number;
  readonly user?: string;
  readonly revoke?: boolean;
  readonly persist?: boolean;
  readonly iommufd?: boolean;
  readonly json?: boolean;
}

export async function grant({ terminal, usage }: CommandContext, options: Options, bdf: string | undefined): Promise<undefined> {
  const { group, revoke = false, persist = false, iommufd = false } = options;
  if ((bdf === undefined) === (group === undefined)) usage('give the address of a device, or --group NUMBER: one of them');
  const name = revoke ? 'root' : (options.user ?? process.env.SUDO_USER);
  if (name === undefined) return usage('give the user: --user NAME');
  const access = hostAccess({}, true);
  const { files, host } = access;
  const members = targetFunctions(
    files,
    bdf === undefined ? { kind: 'group', group: group! } : { kind: 'function', bdf, alone: false },
    'none',
  );
  const plan = planGrant(files, host, members, userOf(host, name), { revoke, iommufd });
  checkAdministrator(access, 'grant');
  carryOutGrant(host, plan);
  const rules = members.filter(({ isBridge }) => !isBridge).map((fn) => fn.bdf);
  const changed = persist ? rules.map(grantRuleFile) : [];
  if (persist && revoke) for (const path of changed) host.remove(path);
  else if (persist) {
    for (const at of rules) {
      const { path, text } = grantRule(at, plan.user, iommufd);
      host.file(path, text, 0o644);
    }
  }
  if (options.json === true) {
    json(terminal, 'vfio-ts/grant/1', { user: plan.user.name, revoke, nodes: plan.nodes, rules: changed, remarks: plan.remarks });
    return;
  }
  for (const { path, after } of plan.nodes)
    terminal.out(`${path}  ${path === '/dev/iommu' ? 'all users' : plan.user.name}, mode ${after.mode.toString(8)}`);
  for (const path of changed) terminal.out(`${path}${revoke ? '  removed' : ''}`);
  for (const remark of plan.remarks) terminal.err(remark);
}
