using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Egress.Audit;

/// <summary>
/// Has a model judge. What is judged is written by an adversary, so that the model is asked in a form that data cannot leave, must prove with a nonce that it answers itself, and may answer with fixed words only; anything else is a
/// failure. For one session: its budget and its cache are its own.
/// </summary>
public sealed class ModelAuditor : IEgressAuditor
{
    private const string By = "model";
    private const int MaxResponse = 64 * 1024;
    private const int MaxTarget = 8 * 1024;
    private readonly HttpClient _http;
    private readonly ModelAuditorOptions _options;
    private readonly TimeProvider _time;
    private readonly VerdictCache _cache;
    private readonly Uri _endpoint;
    private readonly Lock _gate = new();
    private DateTimeOffset _hour;
    private int _calls;
    private long _tokens;

    /// <summary>Makes one.</summary>
    /// <param name="http">Sends; must follow no redirections with the key, and is not disposed of.</param>
    /// <param name="options">Where, what, how much.</param>
    /// <param name="time">Clock.</param>
    public ModelAuditor(HttpClient http, ModelAuditorOptions options, TimeProvider? time = null)
    {
        ArgumentNullException.ThrowIfNull(http);
        ArgumentNullException.ThrowIfNull(options);
        _http = http;
        _options = options;
        _time = time ?? TimeProvider.System;
        _cache = new VerdictCache(options.CacheTime, _time);
        _endpoint = new Uri(options.BaseUrl.AbsoluteUri.TrimEnd('/') + "/chat/completions");
        _hour = _time.GetUtcNow();
    }

    /// <inheritdoc/>
    /// <exception cref="AuditFailedException">No verdict can be had.</exception>
    public async Task<AuditVerdict> JudgeAsync(AuditRequest request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        var body = Shown(request);
        if (InjectionSigns.AreIn(body) || InjectionSigns.AreIn(Uri.UnescapeDataString(request.Target)) || request.Headers.Any(h => InjectionSigns.AreIn(h.Value)))
        {
            // It would be unwise to show it to the one that it speaks to.
            return new AuditVerdict(AuditDecision.Deny, ModelPrompt.Categories["instructs_the_judge"], By);
        }

        var key = VerdictCache.KeyOf(request);
        if (_cache.Find(key) is { } known)
        {
            return known;
        }

        Spend();
        var nonce = RandomNumberGenerator.GetHexString(32, lowercase: true);
        var call = ModelPrompt.Make(_options, request, body, nonce, "data-" + RandomNumberGenerator.GetHexString(32, lowercase: true));
        var response = await SendAsync(call, cancellationToken).ConfigureAwait(false);
        var (decision, category, tokens) = ModelPrompt.Read(response, nonce);
        Book(tokens > 0 ? tokens : (call.Length + response.Length) / 4);
        var verdict = new AuditVerdict(decision, ModelPrompt.Categories[category], By);
        _cache.Keep(key, verdict);
        return verdict;
    }

    private string Shown(AuditRequest request)
    {
        if (request.BodyIsCut || request.Target.Length > MaxTarget)
        {
            throw new AuditFailedException("the request is too long to be judged");
        }

        string text;
        try
        {
            text = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(request.Body.Span);
        }
        catch (ArgumentException)
        {
            // Nobody can tell by looking what compressed or encrypted bytes say.
            throw new AuditFailedException("the body is not text and cannot be judged");
        }

        return text.Length <= _options.MaxBodyCharacters ? text : throw new AuditFailedException($"the body is longer than {_options.MaxBodyCharacters} characters and cannot be judged whole");
    }

    private async Task<ReadOnlyMemory<byte>> SendAsync(string call, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(_options.Timeout, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            using var message = new HttpRequestMessage(HttpMethod.Post, _endpoint) { Content = new StringContent(call, Encoding.UTF8, "application/json") };
            if (_options.ApiKey is { } key)
            {
                message.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
            }

            using var response = await _http.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, both.Token).ConfigureAwait(false);
            if (!response.IsSuccessStatusCode)
            {
                throw new AuditFailedException($"the model's endpoint answered with status {(int)response.StatusCode}");
            }

            await using var stream = await response.Content.ReadAsStreamAsync(both.Token).ConfigureAwait(false);
            var buffer = new byte[MaxResponse];
            var count = await stream.ReadAtLeastAsync(buffer, MaxResponse, throwOnEndOfStream: false, both.Token).ConfigureAwait(false);
            return count < MaxResponse ? buffer.AsMemory(0, count) : throw new AuditFailedException("the model's endpoint answered too much");
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new AuditFailedException($"the model did not answer within {_options.Timeout.TotalSeconds} s");
        }
        catch (Exception exception) when (exception is HttpRequestException or IOException)
        {
            throw new AuditFailedException("the model's endpoint cannot be reached", exception);
        }
    }

    private void Spend()
    {
        lock (_gate)
        {
            var now = _time.GetUtcNow();
            if (now - _hour >= TimeSpan.FromHours(1))
            {
                (_hour, _calls, _tokens) = (now, 0, 0);
            }

            if (_calls >= _options.CallsPerHour || _tokens >= _options.TokensPerHour)
            {
                throw new AuditFailedException("the session has used up what the model may judge in an hour");
            }

            _calls++;
        }
    }

    private void Book(long tokens)
    {
        lock (_gate)
        {
            _tokens += tokens;
        }
    }
}
