using System.Text.Json.Nodes;
using Sandbox.TestSupport;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>The null backend on a cluster's storage: state and reminders in PostgreSQL. Each server has the address of the one before it: elsewhere it would wait for the entry of the killed one to grow stale.</summary>
internal sealed class NullClusterTarget(string postgres, string redis) : NullTarget
{
    protected override JsonObject Settings()
    {
        var settings = base.Settings();
        settings["postgres"] = postgres;
        settings["redis"] = redis;
        settings["siloPort"] = Loopback.FreePort();
        settings["orleansGatewayPort"] = Loopback.FreePort();
        settings["snapshotDirectory"] = Path.Combine(DataDirectory, "snapshots");
        settings["snapshotKeyFile"] = Path.Combine(DataDirectory, "snapshot.key");
        return settings;
    }
}
