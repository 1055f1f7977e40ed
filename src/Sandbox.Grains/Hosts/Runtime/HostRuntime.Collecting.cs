using Microsoft.Extensions.Logging;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Ridding the snapshot store of what no snapshot needs. Every host does so for the tenants it has ever served; doing it twice is harmless.</summary>
internal sealed partial class HostRuntime
{
    private readonly HashSet<string> _tenants = new(StringComparer.Ordinal);

    private string TenantsFile => Path.Combine(_options.DataDirectory, "tenants");

    private void NoteTenant(string tenant)
    {
        lock (_tenants)
        {
            LoadTenants();
            if (_tenants.Add(tenant))
            {
                File.AppendAllLines(TenantsFile, [tenant]);
            }
        }
    }

    private void LoadTenants()
    {
        if (_tenants.Count == 0 && File.Exists(TenantsFile))
        {
            _tenants.UnionWith(File.ReadLines(TenantsFile).Where(l => l.Length > 0));
        }
    }

    private async Task CollectAsync(CancellationToken cancellationToken)
    {
        if (_snapshots is null)
        {
            return;
        }

        List<string> tenants;
        lock (_tenants)
        {
            LoadTenants();
            tenants = [.. _tenants];
        }

        foreach (var tenant in tenants)
        {
            try
            {
                var freed = await _snapshots.CollectAsync(tenant, cancellationToken);
                if (freed > 0)
                {
                    _logger.LogInformation("{MiB} MiB of snapshots of tenant {Tenant} were removed: nothing needs them any more", freed >> 20, tenant);
                }
            }
            catch (SnapshotException e)
            {
                _logger.LogWarning(e, "Snapshots of tenant {Tenant} could not be collected now", tenant);
            }
        }
    }
}
