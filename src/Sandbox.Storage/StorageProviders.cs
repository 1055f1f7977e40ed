namespace Sandbox.Storage;

/// <summary>Names of the storage providers that grains ask for.</summary>
public static class StorageProviders
{
    /// <summary>State of Sandbox's own grains.</summary>
    public const string State = "sandbox";

    /// <summary>Orleans' subscriptions to streams; without it they would be forgotten at a restart and leak elsewhere.</summary>
    public const string PubSub = "PubSubStore";
}
