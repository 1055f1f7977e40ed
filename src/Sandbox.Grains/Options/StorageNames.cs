namespace Sandbox.Grains;

/// <summary>Names under which the actors ask for grain storage. A server registers a provider for each.</summary>
public static class StorageNames
{
    /// <summary>Storage of sessions, indexes, tenants and templates.</summary>
    public const string Provider = "sandbox";

    /// <summary>Storage of stream subscriptions. The name is given by Orleans.</summary>
    public const string PubSub = "PubSubStore";
}
